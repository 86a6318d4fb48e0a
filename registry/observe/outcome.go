package observe

import (
	"errors"

	"berth/auth"
	"berth/metrics"
)

// OutcomeOf tells how it went when it was asked who sent a request and whether they may, from the first error of either.
func OutcomeOf(s auth.Subject, err error) metrics.Outcome {
	var throttled *auth.ThrottledError
	switch {
	case err == nil && s.Name == "" && s.Grants == nil:
		return metrics.Anonymous
	case err == nil:
		return metrics.Authenticated
	case errors.As(err, &throttled):
		return metrics.Throttled
	case errors.Is(err, auth.ErrUnavailable):
		return metrics.Unavailable
	case errors.Is(err, auth.ErrReadOnly):
		return metrics.ReadOnly
	case errors.Is(err, auth.ErrDenied):
		return metrics.Denied
	}
	for _, known := range []error{auth.ErrCredentials, auth.ErrMalformed, auth.ErrToken, auth.ErrForeign} {
		if errors.Is(err, known) {
			return metrics.BadCredentials
		}
	}
	return metrics.Unasked
}

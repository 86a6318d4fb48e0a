//go:build nogcs

package open

import (
	"context"
	"errors"

	"berth/configuration"
)

func openGCS(context.Context, configuration.Storage, func(string)) (closer, error) {
	return nil, errors.New("storage.gcs: this berth was built without it (-tags nogcs)")
}

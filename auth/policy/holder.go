package policy

import (
	"context"
	"sync/atomic"

	"berth/auth"
	"berth/auth/reload"
)

// A Holder holds the policy in force and authorises by it. Every request sees one whole policy; the next request after a
// [Holder.Replace], and those from [reload.Interval] after a change of the file of groups, see the other one. It is safe
// for concurrent use.
type Holder struct {
	state atomic.Pointer[state]
}

type state struct {
	policy *Policy
	file   *reload.File[*Groups] // nil for none
}

var _ auth.Authorizer = (*Holder)(nil)

// NewHolder returns a Holder of a policy. groups may be nil.
func NewHolder(p *Policy, groups *reload.File[*Groups]) *Holder {
	h := new(Holder)
	h.Replace(p, groups)
	return h
}

// Replace puts another policy in force.
func (h *Holder) Replace(p *Policy, groups *reload.File[*Groups]) {
	h.state.Store(&state{policy: p, file: groups})
}

// Policy returns the policy in force.
func (h *Holder) Policy() *Policy {
	s := h.state.Load()
	if s.file == nil {
		return s.policy
	}
	if groups := *s.file.Get(); groups != s.policy.members {
		next := &state{policy: s.policy.With(groups), file: s.file}
		h.state.CompareAndSwap(s, next) // when it fails, the other state was put in force after this one was read
		return next.policy
	}
	return s.policy
}

// Authorize asks the policy in force.
func (h *Holder) Authorize(ctx context.Context, s auth.Subject, want ...auth.Access) error {
	return h.Policy().Authorize(ctx, s, want...)
}

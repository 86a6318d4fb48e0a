package server

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/sirupsen/logrus"

	"berth/registry"
)

// UploadPurger returns a task for [Options] that removes, once in each interval, the uploads that were idle for longer
// than age; a dry run only logs them. It does nothing while readOnly reports true.
func UploadPurger(reg *registry.Registry, age, interval time.Duration, dryRun bool, readOnly func() bool, log logrus.FieldLogger) func(context.Context) {
	return func(ctx context.Context) {
		every(ctx, interval, func() {
			if readOnly() {
				return
			}
			result, err := reg.PurgeUploads(ctx, age, dryRun)
			entry := log.WithFields(logrus.Fields{"uploads": result.Uploads, "bytes": result.Bytes, "dryrun": dryRun})
			switch {
			case ctx.Err() != nil:
			case err != nil:
				entry.WithError(err).Warn("purging abandoned uploads failed")
			case result.Uploads > 0:
				entry.Info("purged abandoned uploads")
			}
		})
	}
}

// every calls do about once in each interval until ctx ends: first within an hour, and each time at random within a
// tenth of the interval, so that replicas started together do not work together.
func every(ctx context.Context, interval time.Duration, do func()) {
	wait := rand.N(max(min(interval, time.Hour), 1))
	for {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
		do()
		wait = interval - interval/20 + rand.N(max(interval/10, 1))
	}
}

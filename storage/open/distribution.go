package open

import (
	"context"

	"berth/storage"
)

// distributionPrefix begins the keys of a CNCF distribution registry, in the same folder of a bucket as ours.
const distributionPrefix = "docker/registry/v2/"

// HasDistribution reports whether a storage also has the data of a CNCF distribution registry, which is neither read nor
// touched. One that cannot be listed is said to have none.
func HasDistribution(ctx context.Context, d storage.Driver) bool {
	for _, err := range d.List(ctx, distributionPrefix, "") {
		return err == nil
	}
	return false
}

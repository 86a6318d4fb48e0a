//go:build nos3

package open

import (
	"context"
	"errors"

	"berth/configuration"
)

func openS3(context.Context, configuration.Storage, func(string)) (closer, error) {
	return nil, errors.New("storage.s3: this berth was built without it (-tags nos3)")
}

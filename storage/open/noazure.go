//go:build noazure

package open

import (
	"context"
	"errors"

	"berth/configuration"
)

func openAzure(context.Context, configuration.Storage, func(string)) (closer, error) {
	return nil, errors.New("storage.azure: this berth was built without it (-tags noazure)")
}

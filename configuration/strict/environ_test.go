package strict

import (
	"reflect"
	"strings"
	"testing"
)

// TestUnderscores holds that a key with underscores can be reached, also one that another key begins.
func TestUnderscores(t *testing.T) {
	type inner struct {
		Retries string `yaml:"retries"`
		Max     struct {
			Size int `yaml:"size"`
		} `yaml:"max"`
		MaxRetries int `yaml:"max_retries"`
	}
	type outer struct {
		Azure *inner `yaml:"azure"`
	}
	schema := &Schema{Section: reflect.TypeFor[outer]()}
	for name, want := range map[string]string{
		"AZURE_MAX_RETRIES": "azure.max_retries", "azure_Max_Size": "azure.max.size", "AZURE_RETRIES": "azure.retries", "AZURE": "azure",
		"AZURE_MAX": "azure.max",
	} {
		if path, _, ok := schema.resolve(schema.Section, name); !ok || strings.Join(path, ".") != want {
			t.Errorf("%s names %q", name, path)
		}
	}
	for _, name := range []string{"AZURE_", "AZURE_MAX_RETRIES_0", "AZUREMAX", "AZURE__MAX"} {
		if path, _, ok := schema.resolve(schema.Section, name); ok {
			t.Errorf("%s names %q", name, path)
		}
	}
}

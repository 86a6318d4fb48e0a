package configuration_test

import (
	"fmt"

	"berth/configuration"
)

func Example() {
	file := "version: 0.1\nstorage: filesystem\nhttp: {addr: ':5000'}\n"
	config, warnings, err := configuration.Parse("config.yml", []byte(file), []string{"REGISTRY_STORAGE_CACHE_SIZE=1GiB"})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, w := range warnings {
		fmt.Println("warning:", w)
	}
	fmt.Println(config.HTTP.Addr, config.Source("http.addr"))
	fmt.Println(config.Storage.Cache.Size, config.Source("storage.cache.size"))
	fmt.Println(config.HTTP.DrainTimeout, config.Source("http.draintimeout"))

	_, _, err = configuration.Parse("config.yml", []byte("version: 0.1\nstorage: filesystem\nhttp:\n  adr: x\n"), nil)
	fmt.Println(err)
	// Output:
	// :5000 config.yml:3
	// 1GiB REGISTRY_STORAGE_CACHE_SIZE
	// 30s default
	// config.yml:4: http.adr: unknown key; the nearest is http.addr
}

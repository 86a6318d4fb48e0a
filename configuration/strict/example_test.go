package strict_test

import (
	"fmt"
	"os"
	"reflect"
	"time"

	"berth/configuration/strict"
)

// A shop is a section; its tags say what its keys may be.
type shop struct {
	Name   string        `yaml:"name" default:"corner"`
	Kind   string        `yaml:"kind" default:"bakery" enum:"bakery|cafe"`
	Open   time.Duration `yaml:"open" default:"8h" min:"1h"`
	Secret strict.Secret `yaml:"secret"`
}

func Example() {
	schema := &strict.Schema{Section: reflect.TypeFor[shop](), Prefix: "SHOP_"}
	doc, err := schema.Parse("shop.yml", []byte("kind: Cafe\nopen: 9h\nsecret: flour\n"))
	if err != nil {
		fmt.Println(err)
		return
	}
	doc.Override([]string{"SHOP_OPEN=10h"}, os.ReadFile)
	var s shop
	sources := doc.Decode(&s)
	fmt.Println(s.Name, s.Kind, s.Open, s.Secret, doc.Err())
	fmt.Println(sources["kind"], sources["open"])

	wrong, _ := schema.Parse("shop.yml", []byte("knid: cafe\nopen: 5m\n"))
	wrong.Decode(&s)
	fmt.Println(wrong.Err())
	// Output:
	// corner cafe 10h0m0s *** <nil>
	// shop.yml:1 SHOP_OPEN
	// shop.yml:1: knid: unknown key; the nearest is kind
	// shop.yml:2: open: must be at least 1h, not "5m"
}

package registry_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"berth/registry"
)

const (
	dockerImageType = "application/vnd.docker.distribution.manifest.v2+json"
	dockerListType  = "application/vnd.docker.distribution.manifest.list.v2+json"
	artifactType    = "application/vnd.oci.artifact.manifest.v1+json"
	futureType      = "application/vnd.example.future.v7+json"
	mixedType       = "application/vnd.Example.Thing.v1+json"

	digestA = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	digestB = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

// doc writes out the shorthands in a document: $A and $B are descriptors, $image and the like members.
func doc(s string) string {
	d := func(digest string) string { return `{"mediaType":"application/x","digest":"` + digest + `","size":1}` }
	return strings.NewReplacer(
		"$A", d(digestA), "$B", d(digestB), "$image", `"mediaType":"`+imageType+`"`, "$index", `"mediaType":"`+indexType+`"`,
		"$future", `"mediaType":"`+futureType+`"`, "$2", `"schemaVersion":2`,
	).Replace(s)
}

// accepted are documents, the content type they come with, and the media type they are taken as.
var accepted = []struct{ contentType, body, want string }{
	{imageType, `{$2,$image,"config":$A,"layers":[$B]}`, imageType},
	{imageType, `{$2,"config":$A,"layers":[$B]}`, imageType},
	{imageType, `{$2,"config":$A,"layers":[]}`, imageType},
	{imageType + "; charset=utf-8", `{$2,"config":$A,"layers":[]}`, imageType},
	{imageType + ";", `{$2,"config":$A,"layers":[]}`, imageType},
	{strings.ToUpper(imageType), `{$2,$image,"config":$A,"layers":[]}`, imageType},
	{dockerImageType, `{$2,"config":$A,"layers":[$A,$A]}`, dockerImageType},
	{indexType, `{$2,$index,"manifests":[$A]}`, indexType},
	{indexType, `{$2,"manifests":[]}`, indexType},
	{indexType, `{$2,"manifests":[$A],"subject":$B}`, indexType},
	{dockerListType, `{$2,"manifests":[$A]}`, dockerListType},
	{artifactType, `{"artifactType":"a/b","blobs":[$A],"subject":$B}`, artifactType},
	{artifactType, `{}`, artifactType},
	{futureType, `{"schemaVersion":1,"layers":"of a kind yet unknown"}`, futureType},
	{futureType, `{"config":7,"subject":"somebody"}`, futureType},
	{mixedType, `{"mediaType":"` + mixedType + `"}`, mixedType},
	{mixedType + " ; charset=utf-8", `{}`, mixedType},
	{"", `{"mediaType":"` + mixedType + `"}`, mixedType},
	{futureType, `{"subject":{"name":"somebody"}}`, futureType},
	{futureType, `{$future,"manifests":[],"layers":[]}`, futureType},
	{"", `{$2,"config":$A,"layers":[]}`, imageType},
	{"", `{$2,"manifests":[$A]}`, indexType},
	{"", `{$future}`, futureType},
	{"application/json", `{$2,$index,"manifests":[]}`, indexType},
	{"application/octet-stream", `{$2,$image,"config":$A,"layers":[]}`, imageType},
	{imageType, ` {"annotations":{"Size":"1","size":"2","layers":"","Layers":""},$2,"config":$A,"layers":[]}` + "\n\t ", imageType},
	{imageType, `{$2,"config":$A,"layers":null,"manifests":null}`, imageType},
	{imageType, `{$2,"config":$A,"layers":[],"annotations":{"a":"\ud83d\ude00 \u0000"},"unknown":[1.5e300,true,null]}`, imageType},
}

// refused are documents of which no two readers could be sure to understand the same, or that are none.
var refused = []struct{ why, contentType, body string }{
	{"empty", imageType, ``},
	{"blank", imageType, ` `},
	{"an array", imageType, `[]`},
	{"a string", futureType, `"x"`},
	{"null", imageType, `null`},
	{"cut short", imageType, `{$2,"config":$A,"layers":[`},
	{"trailing bytes", imageType, `{$2,"config":$A,"layers":[]}x`},
	{"a trailing object", imageType, `{$2,"config":$A,"layers":[]}{}`},
	{"a trailing brace", futureType, `{}}`},
	{"a trailing comma", futureType, `{"a":[1,]}`},
	{"a byte order mark", imageType, "\ufeff" + `{$2,"config":$A,"layers":[]}`},
	{"no JSON in a future type", futureType, `{"a":01}`},
	{"two members of a name", imageType, `{$2,"config":$A,"config":$B,"layers":[]}`},
	{"two members of a name, escaped", imageType, `{$2,"config":$A,"c\u006fnfig":$B,"layers":[]}`},
	{"two members of a name, in a case variant", imageType, `{$2,"config":$A,"layers":[],"Layers":[$B]}`},
	{"two members of a name, in a variant that folds", imageType, `{$2,"config":$A,"layers":[],"layer` + "ſ" + `":[$B]}`},
	{"two members of a name, deep down", imageType, `{$2,"config":{"digest":"` + digestA + `","diGest":"` + digestB + `"},"layers":[]}`},
	{"two annotations of a name", imageType, `{$2,"config":$A,"layers":[],"annotations":{"a":"1","a":"2"}}`},
	{"two members of a name in a future type", futureType, `{"x":{"a":1,"a":2}}`},
	{"a case variant alone", imageType, `{$2,"config":$A,"Layers":[$B]}`},
	{"a variant that folds alone", imageType, `{$2,"config":$A,"layer` + "ſ" + `":[$B]}`},
	{"layers beside manifests", indexType, `{$2,"manifests":[$A],"layers":[$B]}`},
	{"config beside manifests", indexType, `{$2,"manifests":[$A],"config":$B}`},
	{"manifests beside layers", imageType, `{$2,"config":$A,"layers":[],"manifests":[]}`},
	{"layers beside manifests, without a type", "", `{$2,"config":$A,"manifests":[],"layers":[]}`},
	{"another type inside", imageType, `{$2,$index,"manifests":[]}`},
	{"another known type inside", futureType, `{$2,$image,"config":$A,"layers":[]}`},
	{"another future type inside", imageType, `{$2,$future,"config":$A,"layers":[]}`},
	{"a generic type inside", imageType, `{$2,"mediaType":"application/json","config":$A,"layers":[]}`},
	{"a type for browsers inside", "", `{"mediaType":"text/html","annotations":{"a":"<script>"}}`},
	{"a broken type inside", "", `{"mediaType":"x/y\r\nSet-Cookie: a+json"}`},
	{"no type at all inside", "", `{"mediaType":"json"}`},
	{"a type for browsers", "text/html", `{$2,"config":$A,"layers":[]}`},
	{"no media type", "x", `{$2,"config":$A,"layers":[]}`},
	{"a broken media type", "application/;x", `{$2,"config":$A,"layers":[]}`},
	{"a long media type", "application/" + strings.Repeat("x", 255) + "+json", `{}`},
	{"schema 1", "application/vnd.docker.distribution.manifest.v1+json", `{"schemaVersion":1,"fsLayers":[]}`},
	{"schema 1 in capitals", "application/vnd.docker.distribution.MANIFEST.v1+json", `{"fsLayers":[]}`},
	{"another type inside, by its case", mixedType, `{"mediaType":"` + strings.ToLower(mixedType) + `"}`},
	{"signed schema 1", "application/vnd.docker.distribution.manifest.v1+prettyjws", `{"schemaVersion":1,"signatures":[]}`},
	{"schema 1 without a type", "application/json", `{"schemaVersion":1,"fsLayers":[]}`},
	{"no schema version", imageType, `{"config":$A,"layers":[]}`},
	{"another schema version", indexType, `{"schemaVersion":3,"manifests":[]}`},
	{"a schema version as a string", imageType, `{"schemaVersion":"2","config":$A,"layers":[]}`},
	{"no config", imageType, `{$2,"layers":[]}`},
	{"a config that is null", imageType, `{$2,"config":null,"layers":[]}`},
	{"no manifests", indexType, `{$2}`},
	{"layers that are no list", imageType, `{$2,"config":$A,"layers":$B}`},
	{"a layer without a digest", imageType, `{$2,"config":$A,"layers":[{}]}`},
	{"a layer with a bad digest", imageType, `{$2,"config":$A,"layers":[{"digest":"sha256:x"}]}`},
	{"a layer of negative size", imageType, `{$2,"config":$A,"layers":[{"digest":"` + digestA + `","size":-1}]}`},
	{"a layer of a broken size", imageType, `{$2,"config":$A,"layers":[{"digest":"` + digestA + `","size":1e40}]}`},
	{"a child with a bad digest", indexType, `{$2,"manifests":[{"digest":"md5:x"}]}`},
	{"a subject with a bad digest", imageType, `{$2,"config":$A,"layers":[],"subject":{"digest":"x"}}`},
	{"an artifact's blob with a bad digest", artifactType, `{"blobs":[{"digest":"x"}]}`},
	{"nested too deep", futureType, strings.Repeat(`{"a":`, 65) + "1" + strings.Repeat("}", 65)},
	{"lists nested too deep", futureType, `{"a":` + strings.Repeat(`[`, 64) + strings.Repeat("]", 64) + "}"},
	{"annotations that are no strings", imageType, `{$2,"config":$A,"layers":[],"annotations":{"a":1}}`},
}

func TestDocuments(t *testing.T) {
	for _, c := range accepted {
		if got, err := registry.ParseDocument(c.contentType, []byte(doc(c.body))); err != nil || got != c.want {
			t.Errorf("%q %s: got %q, %v, want %q", c.contentType, c.body, got, err, c.want)
		}
	}
	for _, c := range refused {
		got, err := registry.ParseDocument(c.contentType, []byte(doc(c.body)))
		wantCode(t, c.why, err, registry.ManifestInvalid)
		if err == nil {
			t.Errorf("%s is taken as %s", c.why, got)
		}
	}
	deepest := strings.Repeat(`{"a":`, 64) + "1" + strings.Repeat("}", 64)
	if _, err := registry.ParseDocument(futureType, []byte(deepest)); err != nil {
		t.Errorf("nested 64 deep: %v", err)
	}
}

// TestLargeDocuments wants as many descriptors as a list may have to be accepted, and members that take more memory than those to
// be refused; a collection still finds what such a one mentions, pushed while it was accepted.
func TestLargeDocuments(t *testing.T) {
	var members strings.Builder
	for i := range 200_000 {
		fmt.Fprintf(&members, `"%x":"",`, i)
	}
	annotated := []byte(`{"annotations":{` + members.String() + `"\\":"` + digestA + `"}}`)
	_, err := registry.ParseDocument(futureType, annotated)
	wantCode(t, "more than 200,000 members", err, registry.ManifestInvalid)
	if found, err := registry.StoredDigests(annotated); err != nil || len(found) != 1 {
		t.Errorf("it mentions %v, %v", found, err)
	}
	layers := strings.Repeat(`{"mediaType":"a/b","digest":"`+digestA+`","size":1},`, 49_998)
	if _, err := registry.ParseDocument(imageType, []byte(doc(`{$2,"config":$A,"layers":[`+layers+`$A]}`))); err != nil {
		t.Errorf("many layers: %v", err)
	}
	_, err = registry.ParseDocument(imageType, []byte(doc(`{$2,"config":$A,"layers":[`+layers+`$A,$A]}`)))
	wantCode(t, "too many layers", err, registry.ManifestInvalid)
}

// FuzzManifest wants what is accepted to be JSON, of a type that no browser runs, and the same to a reader that knows of
// no variants of names; a collection must find all digests in it.
func FuzzManifest(f *testing.F) {
	for _, c := range accepted {
		f.Add(c.contentType, []byte(doc(c.body)))
	}
	for _, c := range refused {
		f.Add(c.contentType, []byte(doc(c.body)))
	}
	for _, text := range []string{digestA, strings.ToUpper(digestA), digestA + "0", digestA[:70], `sha256:\u00` + fmt.Sprintf("%x", digestA[7]) + digestA[8:], "sha512:" + strings.Repeat("0", 128)} {
		f.Add("", []byte(`{"mediaType":"`+imageType+`","schemaVersion":2,"annotations":{"a":"`+text+`","`+text+`":"sha"}}`))
	}
	f.Fuzz(func(t *testing.T, contentType string, body []byte) {
		mediaType, err := registry.ParseDocument(contentType, body)
		if err != nil {
			wantCode(t, "refused", err, registry.ManifestInvalid)
			return
		}
		var members map[string]any
		if err := json.Unmarshal(body, &members); err != nil {
			t.Fatalf("accepted, and yet %v: %s", err, body)
		}
		if inner, ok := members["mediaType"].(string); ok && inner != "" && inner != mediaType {
			t.Errorf("taken as %q, and says %q", mediaType, inner)
		}
		if !strings.HasSuffix(strings.ToLower(mediaType), "+json") {
			t.Errorf("taken as %q", mediaType)
		}
		if found, parsed := registry.MentionedDigests(body); !slices.Equal(found, parsed) {
			t.Errorf("it mentions %v, and a collection finds %v", parsed, found)
		}
		_, layers := members["layers"].([]any)
		_, manifests := members["manifests"].([]any)
		if known := mediaType == imageType || mediaType == indexType || mediaType == dockerImageType || mediaType == dockerListType; known && layers && manifests {
			t.Error("ambiguous, and yet accepted")
		}
	})
}

func FuzzRecord(f *testing.F) {
	for _, s := range []string{"", "\n", "{}\n", "null\n", `{"nonce":"x","size":5,"segments":[{"key":"data/1","size":5}]}` + "\n",
		`{"mediaType":"a","subject":"` + digestA + `"}` + "\npayload\nof lines", `{"size":"x"}` + "\n", "[]\n", "{}", "{\n}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		payload, err := registry.ReadRecord(body)
		if err == nil && !strings.HasSuffix(string(body), "\n"+string(payload)) {
			t.Errorf("%q has the payload %q", body, payload)
		}
	})
}

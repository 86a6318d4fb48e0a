package hostile

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"berth/tests/content"
	"berth/tests/harness"
)

// full is a little less than the largest manifest there may be, in bytes.
const full = 4<<20 - 1000

// fill repeats a piece to a document that is as large as allowed.
func fill(head, piece, tail string) string {
	return head + strings.Repeat(piece, (full-len(head)-len(tail))/len(piece)) + tail
}

// numbered is fill with pieces that differ.
func numbered(head, format, tail string) string {
	var b strings.Builder
	b.WriteString(head)
	for i := 0; b.Len() < full-len(tail)-200; i++ {
		fmt.Fprintf(&b, format, i)
	}
	return b.String() + tail
}

// TestHugeJSON pushes manifests of the largest size that are made to be dear to read, many at once. None is accepted,
// but for those that are merely large.
func TestHugeJSON(t *testing.T) {
	debug := harness.FreeAddr(t)
	s := start(t, "REGISTRY_HTTP_DEBUG_ADDR="+debug)
	config := content.Algorithm(content.Digest).Of([]byte("{}"))
	if err := s.PushBlob("huge", config); err != nil {
		t.Fatal(err)
	}
	member := fmt.Sprintf(`{"mediaType":"a/b","digest":%q,"size":2}`, config.Digest)
	head := `{"schemaVersion":2,"config":` + member + `,"layers":[`
	missing := `{"mediaType":"a/b","digest":"sha256:%064d","size":2},`
	for name, c := range map[string]struct {
		body   string
		status int
	}{
		"nested arrays":            {fill("", "[", ""), 400},
		"nested arrays in a field": {fill(`{"schemaVersion":2,"x":`, "[", ""), 400},
		"nested objects":           {fill("", `{"a":`, ""), 400},
		"nested and closed":        {`{"a":` + strings.Repeat("[", 2_000_000) + strings.Repeat("]", 2_000_000) + "}", 400},
		"nested layers":            {fill("", `{"layers":[`, ""), 400},
		"nested indexes":           {fill("", `{"manifests":[`, ""), 400},
		"one long string":          {fill(`{"schemaVersion":2,"x":"`, "x", ""), 400},
		"one long number":          {fill(`{"schemaVersion":2,"x":`, "9", "}"), 400},
		"a long size":              {fill(`{"schemaVersion":2,"config":{"size":`, "9", "}}"), 400},
		"escapes":                  {fill(`{"schemaVersion":2,"x":"`, `\u0000`, `"}`), 400},
		"half surrogates":          {fill(`{"schemaVersion":2,"x":"`, `\ud800`, `"}`), 400},
		"spaces":                   {fill("", " ", ""), 400},
		"no layers":                {fill(head, "{},", "{}]}"), 400},
		"nulls":                    {fill(head, "null,", "null]}"), 400},
		"layers that are missing":  {numbered(head, missing, member+"]}"), 404},
		"children that are missing": {numbered(`{"schemaVersion":2,"mediaType":"`+content.ImageIndex+`","manifests":[`, missing,
			member+"]}"), 404},
		"members of one name":  {fill(`{"schemaVersion":2`, `,"a":1`, "}"), 400},
		"members of any name":  {numbered(`{"schemaVersion":2,"config":`+member+`,"layers":[]`, `,"a%d":1`, "}"), 400},
		"the same layer":       {fill(head, member+",", member+"]}"), 201},
		"annotations":          {numbered(head+`],"annotations":{`, `"a%d":"bbbbbbbbbbbb",`, `"z":"z"}}`), 201},
		"more annotations":     {numbered(head+`],"annotations":{`, `"a%d":"b",`, `"z":"z"}}`), 400},
		"strings like digests": {numbered(`{"schemaVersion":2,"config":`+member+`,"layers":[],"x":[`, `"sha256:%064d",`, `""]}`), 400},
	} {
		t.Run(name, func(t *testing.T) {
			collect(t, debug)
			before, _ := memory(t, s)
			begun := time.Now()
			at(6, func(int) {
				mediaType := content.ImageManifest
				if strings.Contains(c.body[:80], content.ImageIndex) {
					mediaType = content.ImageIndex
				}
				call(t, s, harness.Call{Method: "PUT", Path: "/v2/huge/manifests/v", Body: []byte(c.body),
					Header: http.Header{"Content-Type": {mediaType}}}, c.status)
			})
			took := time.Since(begun)
			now, peak := memory(t, s)
			t.Logf("%v for 6 of %d KiB; memory %d MiB before, %d after, %d at most so far", took, len(c.body)>>10, before>>20, now>>20, peak>>20)
			if took > 20*time.Second {
				t.Errorf("it took %v", took)
			}
		})
	}
	if _, peak := memory(t, s); peak > 700<<20 {
		t.Errorf("it took %d MiB of memory", peak>>20)
	}
}

// collect has the server let go of what it does not need any more.
func collect(t *testing.T, debug string) {
	t.Helper()
	r, err := harness.NewClient("http://" + debug).Get("/debug/pprof/heap?gc=1")
	if err == nil {
		err = r.Want(http.StatusOK)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestNestedIndexes pushes indexes that name each other twice, 40 deep: whoever walks them walks 2^40 ways (zot #4318).
func TestNestedIndexes(t *testing.T) {
	s := start(t)
	set := content.Algorithm(content.Digest).Image("nested", content.AMD64(), []int{10}, nil)
	for range 40 {
		child := set.Top().Describe()
		set.Manifests = append(set.Manifests, content.Algorithm(content.Digest).Document(content.ImageIndex,
			content.Fields{"manifests": []content.Descriptor{child, child}}))
	}
	begun := time.Now()
	if err := s.Push("nested", set, "v"); err != nil {
		t.Fatal(err)
	}
	if _, err := s.PullManifest("nested", set.Top().Digest); err != nil {
		t.Error(err)
	}
	call(t, s, harness.Call{Method: "GET", Path: "/v2/nested/referrers/" + set.Top().Digest}, 200)
	for i := range set.Manifests {
		call(t, s, harness.Call{Method: "DELETE", Path: "/v2/nested/manifests/" + set.Manifests[len(set.Manifests)-1-i].Digest}, 202)
	}
	if took := time.Since(begun); took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
}

// TestHugeReferrers gives one subject many referrers with large annotations, and asks many times at once for all of them.
func TestHugeReferrers(t *testing.T) {
	s := start(t)
	set := content.Algorithm(content.Digest).Image("subject", content.AMD64(), []int{10}, nil)
	if err := s.Push("referrers", set, "v"); err != nil {
		t.Fatal(err)
	}
	const n = 20
	large := strings.Repeat("x", 3<<20)
	for i := range n {
		extra := content.Fields{"subject": set.Top().Describe(), "annotations": map[string]string{"a": large}}
		if err := s.Push("referrers", content.Algorithm(content.Digest).Artifact(fmt.Sprint("huge", i), "a/b", extra)); err != nil {
			t.Fatal(err)
		}
	}
	before, _ := memory(t, s)
	at(16, func(int) {
		r := call(t, s, harness.Call{Method: "GET", Path: "/v2/referrers/referrers/" + set.Top().Digest}, 200)
		if len(r.Body) > 4<<20 {
			t.Errorf("a page of referrers has %d bytes", len(r.Body))
		}
	})
	_, peak := memory(t, s)
	t.Logf("memory %d MiB before, %d at most", before>>20, peak>>20)
	listed := map[string]bool{}
	for next, ok := "/v2/referrers/referrers/"+set.Top().Digest, true; ok; {
		r := call(t, s, harness.Call{Method: "GET", Path: next}, 200)
		var index struct{ Manifests []content.Descriptor }
		if err := json.Unmarshal(r.Body, &index); err != nil {
			t.Fatal(err)
		}
		for _, d := range index.Manifests {
			listed[d.Digest] = true
		}
		next, _, ok = strings.Cut(strings.TrimPrefix(r.Header.Get("Link"), "<"), ">")
	}
	if len(listed) != n {
		t.Errorf("the pages list %d of %d referrers", len(listed), n)
	}
	if peak > 700<<20 {
		t.Errorf("it took %d MiB of memory", peak>>20)
	}
}

package process

import (
	"os"
	"strings"
	"testing"
)

func TestCodeIsFound(t *testing.T) {
	maps, err := os.ReadFile("/proc/self/maps")
	if err != nil {
		t.Fatal(err)
	}
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	found := 0
	for line := range strings.Lines(string(maps)) {
		if _, _, ok := codeOf(line, program); ok {
			found++
		}
	}
	if found == 0 {
		t.Errorf("no code of %s in\n%s", program, maps)
	}
	for _, line := range []string{
		"", "\n", "00400000-00500000 r-xp 00000000 fe:00 1\n",
		"00400000-00500000 r--p 00000000 fe:00 1 " + program + "\n", // may have been written to before it was read-only
		"00400000-00500000 r-xp 00000000 fe:00 1 /another\n",
		"00500000-00400000 r-xp 00000000 fe:00 1 " + program + "\n",
		"x-00400000 r-xp 00000000 fe:00 1 " + program + "\n",
	} {
		if _, _, ok := codeOf(line, program); ok {
			t.Errorf("%q is taken for code", line)
		}
	}
}

// The code goes on after its memory was given back.
func TestForgetStart(t *testing.T) {
	for range 3 {
		forgetStart()
	}
}

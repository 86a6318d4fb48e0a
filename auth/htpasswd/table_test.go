package htpasswd

import (
	"hash/maphash"
	"strings"
	"testing"

	"golang.org/x/crypto/bcrypt"
)

// hashOf makes a hash as cheap as bcrypt has them.
func hashOf(t testing.TB, password string) string {
	t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
	if err != nil {
		t.Fatal(err)
	}
	return string(hash)
}

const someHash = "$2y$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"

func TestParseTable(t *testing.T) {
	data := "# users\n\n  # indented\nalice:" + someHash + "\r\n \t\nzoë the 2nd@example.com:" + someHash + "  \nbob:" + someHash
	table, err := parseTable("f", []byte(data))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range table.inFile {
		got = append(got, e.user)
		if table.byName[e.user] != e || e.text != someHash {
			t.Errorf("%q: %+v", e.user, e)
		}
	}
	if want := "alice,zoë the 2nd@example.com,bob"; strings.Join(got, ",") != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if line := table.byName["bob"].line; line != 7 {
		t.Errorf("bob is in line %d, want 7", line)
	}
}

func TestParseTableRefuses(t *testing.T) {
	for data, want := range map[string]string{
		"alice":                                   "f:1: the line is not of the form user:hash",
		"# x\n\nalice:secret":                     "f:3: what follows the user name is no hash",
		"alice:$apr1$x$y":                         "f:1: the hash is MD5",
		":" + someHash:                            "f:1: the user name is empty",
		"alice :" + someHash:                      "f:1: the user name \"alice \" begins or ends with a blank",
		"al\x00ice:" + someHash:                   "f:1: the user name \"al\\x00ice\" has a control character",
		"al\xffice:" + someHash:                   "f:1: the user name \"al\\xffice\" has a control character",
		"\ufeffalice:" + someHash:                 "f:1: the user name \"\\ufeffalice\" has a control character",
		"a:b:" + someHash:                         "f:1: what follows the user name is no hash",
		"alice:" + someHash + ":comment":          "f:1: the bcrypt hash is malformed",
		strings.Repeat("a", 256) + ":" + someHash: "f:1: the user name is longer than 255 bytes",
		strings.Repeat("a", 2000):                 "f:1: the line is longer than 1024 bytes",
		"a:" + someHash + "\nb:" + someHash + "\na:" + someHash: "f:3: the user \"a\" is in line 1 already",
	} {
		_, err := parseTable("f", []byte(data))
		if err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%q: got %v, want %s", data, err, want)
		}
	}
}

func TestColonInUserName(t *testing.T) {
	err := CheckName("kube:admin")
	if err == nil || !strings.Contains(err.Error(), "colon") || !strings.Contains(err.Error(), "Basic") {
		t.Errorf("got %v, want an error that says why", err)
	}
}

// Unknown users are given an entry of the file, always the same for a name, and all of them have their share.
func TestUnknownUsersShareTheFilesHashes(t *testing.T) {
	table, err := parseTable("f", []byte("a:"+someHash+"\nb:"+someHash+"\nc:"+someHash))
	if err != nil {
		t.Fatal(err)
	}
	seed := maphash.MakeSeed()
	seen := make(map[*entry]int)
	for i := range 300 {
		name := strings.Repeat("x", i+1)
		e, known := table.find(name, seed)
		again, _ := table.find(name, seed)
		if known || e != again {
			t.Fatalf("%d: known %t, %p and %p", i, known, e, again)
		}
		seen[e]++
	}
	for _, e := range table.inFile {
		if seen[e] < 50 {
			t.Errorf("%s was chosen %d times of 300", e.user, seen[e])
		}
	}
}

func FuzzLine(f *testing.F) {
	for _, seed := range []string{
		"", "# x", "alice:" + someHash, "alice", ":", "a:$5$rounds=1000$s$x", "a:$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4",
		"a:$6$$KvRrc0bxRLyTUhO8OJOmRczh7oCol5BACiR8rmdfVzvuGgm8JmLDumsL/ah.jFtT.DswxoP9Nv3ByfU4j5hm/0", "a:$1$", "a:{SHA}",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, line string) {
		e, err := parseLine(line)
		if err != nil || e == nil {
			return
		}
		if CheckName(e.user) != nil || e.user+":"+e.text != line || e.hash == nil {
			t.Errorf("%q: %+v", line, e)
		}
		if h, ok := e.hash.(*argon2idHash); ok && (h.memory > maxMemory || h.passes > maxPasses || h.lanes > maxLanes) {
			t.Errorf("%q: unbounded", line)
		}
		if h, ok := e.hash.(*shaCrypt); ok && (h.rounds > maxRounds || h.rounds < minRounds) {
			t.Errorf("%q: unbounded", line)
		}
	})
}

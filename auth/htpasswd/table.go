package htpasswd

import (
	"bytes"
	"errors"
	"fmt"
	"hash/maphash"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Bounds of a file and of its parts, in bytes.
const (
	maxFile     = 16 << 20
	maxLine     = 1 << 10
	maxUser     = 255
	maxPassword = 256
)

// An entry is a line of the file that names a user.
type entry struct {
	user string
	line int // from 1
	kind Kind
	text string // the hash as it is written
	hash verifier
}

// A table is what a file says. It is not changed once made.
type table struct {
	byName map[string]*entry
	inFile []*entry
}

// parseTable parses a file of lines "user:hash", among them empty ones and comments, which begin with "#". Errors name
// the file and the line, and never repeat a hash.
func parseTable(path string, data []byte) (*table, error) {
	t := &table{byName: make(map[string]*entry)}
	number := 0
	for line := range bytes.Lines(data) {
		number++
		e, err := parseLine(string(trimEnd(line)))
		if err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, number, err)
		}
		if e == nil {
			continue
		}
		if first := t.byName[e.user]; first != nil {
			return nil, fmt.Errorf("%s:%d: the user %q is in line %d already", path, number, e.user, first.line)
		}
		e.line = number
		t.byName[e.user] = e
		t.inFile = append(t.inFile, e)
	}
	return t, nil
}

// trimEnd removes the end of a line, of Unix or of Windows, and blanks before it.
func trimEnd(line []byte) []byte { return bytes.TrimRight(line, " \t\r\n") }

// parseLine returns nil for a line that names no user.
func parseLine(line string) (*entry, error) {
	if trimmed := strings.TrimLeft(line, " \t"); trimmed == "" || trimmed[0] == '#' {
		return nil, nil
	}
	if len(line) > maxLine {
		return nil, fmt.Errorf("the line is longer than %d bytes", maxLine)
	}
	user, text, ok := strings.Cut(line, ":")
	if !ok {
		return nil, errors.New("the line is not of the form user:hash")
	}
	if err := CheckName(user); err != nil {
		return nil, err
	}
	kind, hash, err := parseHash(text)
	if err != nil {
		return nil, err
	}
	return &entry{user: user, kind: kind, text: text, hash: hash}, nil
}

// CheckName says why a user cannot have a name, if so.
func CheckName(user string) error {
	switch {
	case user == "":
		return errors.New("the user name is empty")
	case len(user) > maxUser:
		return fmt.Errorf("the user name is longer than %d bytes", maxUser)
	case strings.Contains(user, ":"):
		return fmt.Errorf("the user name %q has a colon: HTTP Basic authentication ends a user name at the first colon, "+
			"so that nobody could log in with it", user)
	case !utf8.ValidString(user) || strings.ContainsFunc(user, func(c rune) bool { return !unicode.IsPrint(c) }):
		return fmt.Errorf("the user name %q has a control character or one that cannot be printed", user)
	case user[0] == '#':
		return fmt.Errorf("the user name %q begins with \"#\", which begins a comment in the file", user)
	case strings.TrimSpace(user) != user:
		return fmt.Errorf("the user name %q begins or ends with a blank", user)
	}
	return nil
}

// empty stands in when the file has no users. Nobody has its password.
const empty = "$2a$10$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"

// find returns the entry of a user. For a user that is not there it returns false and the entry of another one, always the
// same, chosen by a seed: unknown users cost what known ones do, in the same proportions, whatever kinds of hashes the file
// has.
func (t *table) find(user string, seed maphash.Seed) (*entry, bool) {
	if e := t.byName[user]; e != nil {
		return e, true
	}
	if len(t.inFile) == 0 {
		return &entry{kind: Bcrypt, text: empty, hash: bcryptHash(empty)}, false
	}
	return t.inFile[maphash.String(seed, user)%uint64(len(t.inFile))], false
}

package htpasswd

import (
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/crypto/argon2"
	"golang.org/x/crypto/bcrypt"
)

// A verifier is a parsed hash of a password. verify takes as long for a wrong password as for the right one.
type verifier interface {
	verify(password string) bool
}

// A Kind is a kind of hash.
type Kind string

// The kinds of hashes that are taken.
const (
	Bcrypt   Kind = "bcrypt"
	Argon2id Kind = "argon2id"
	SHA256   Kind = "sha256-crypt"
	SHA512   Kind = "sha512-crypt"
)

// parseHash parses what stands behind a user's name. Its errors never repeat it.
func parseHash(text string) (Kind, verifier, error) {
	prefix := func(prefixes ...string) bool {
		for _, p := range prefixes {
			if strings.HasPrefix(text, p) {
				return true
			}
		}
		return false
	}
	switch {
	case prefix("$2a$", "$2b$", "$2y$"):
		v, err := parseBcrypt(text)
		return Bcrypt, v, err
	case prefix("$argon2id$"):
		v, err := parseArgon2id(text)
		return Argon2id, v, err
	case prefix("$5$"):
		v, err := parseSHACrypt(text)
		return SHA256, v, err
	case prefix("$6$"):
		v, err := parseSHACrypt(text)
		return SHA512, v, err
	case prefix("$apr1$", "$1$"):
		return "", nil, refused("MD5")
	case prefix("{SHA}", "{SSHA}"):
		return "", nil, refused("SHA-1")
	case prefix("$", "{"):
		return "", nil, refused("of an unknown kind")
	}
	return "", nil, errors.New("what follows the user name is no hash that is taken, but a plain password or DES; " + remedy)
}

const remedy = "make the line anew with bcrypt (berth user add, or htpasswd -B)"

func refused(kind string) error {
	return fmt.Errorf("the hash is %s, which is not taken; %s", kind, remedy)
}

// maxCost bounds the cost of bcrypt: 16 takes seconds, and each step doubles it.
const maxCost = 16

type bcryptHash []byte

func parseBcrypt(text string) (verifier, error) {
	cost, err := bcrypt.Cost([]byte(text))
	if err != nil || len(text) != 60 || strings.Trim(text[len("$2a$10$"):], alphabetBcrypt) != "" {
		return nil, errors.New("the bcrypt hash is malformed")
	}
	if cost > maxCost {
		return nil, fmt.Errorf("the cost of the bcrypt hash is %d, at most %d is taken", cost, maxCost)
	}
	return bcryptHash(text), nil
}

const alphabetBcrypt = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"

func (h bcryptHash) verify(password string) bool {
	return bcrypt.CompareHashAndPassword(h, []byte(password)) == nil
}

// Bounds of argon2id (RFC 9106): what one verification may take of memory, in KiB, and of passes over it.
const (
	maxMemory = 256 << 10
	maxPasses = 16
	maxLanes  = 16
)

type argon2idHash struct {
	memory, passes uint32
	lanes          uint8
	salt, sum      []byte
}

// parseArgon2id parses a hash as the reference implementation writes it: $argon2id$v=19$m=65536,t=3,p=4$salt$sum, the
// last two in base64 without padding.
func parseArgon2id(text string) (verifier, error) {
	malformed := errors.New("the argon2id hash is malformed, it must be $argon2id$v=19$m=…,t=…,p=…$salt$hash")
	fields := strings.Split(text, "$")
	if len(fields) != 6 || fields[2] != "v=19" {
		return nil, malformed
	}
	var h argon2idHash
	var lanes uint32
	if n, err := fmt.Sscanf(fields[3], "m=%d,t=%d,p=%d", &h.memory, &h.passes, &lanes); n != 3 || err != nil ||
		fmt.Sprintf("m=%d,t=%d,p=%d", h.memory, h.passes, lanes) != fields[3] {
		return nil, malformed
	}
	if lanes < 1 || lanes > maxLanes || h.passes < 1 || h.passes > maxPasses || h.memory < 8*lanes || h.memory > maxMemory {
		return nil, fmt.Errorf("the parameters of the argon2id hash must be m=8·p to %d, t=1 to %d, p=1 to %d",
			maxMemory, maxPasses, maxLanes)
	}
	h.lanes = uint8(lanes)
	var err1, err2 error
	h.salt, err1 = base64.RawStdEncoding.DecodeString(fields[4])
	h.sum, err2 = base64.RawStdEncoding.DecodeString(fields[5])
	if err1 != nil || err2 != nil || len(h.salt) < 8 || len(h.salt) > 64 || len(h.sum) < 16 || len(h.sum) > 64 {
		return nil, malformed
	}
	return &h, nil
}

func (h *argon2idHash) verify(password string) bool {
	sum := argon2.IDKey([]byte(password), h.salt, h.passes, h.memory, h.lanes, uint32(len(h.sum)))
	return subtle.ConstantTimeCompare(sum, h.sum) == 1
}

package htpasswd

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/subtle"
	"errors"
	"fmt"
	"hash"
	"strconv"
	"strings"
)

// Bounds of the rounds of SHA-crypt. The specification's own maximum would take minutes.
const (
	minRounds     = 1000
	maxRounds     = 1_000_000
	defaultRounds = 5000
)

// A shaCrypt is a hash of the kind that U. Drepper's "Unix crypt using SHA-256 and SHA-512" specifies: $5$ and $6$.
type shaCrypt struct {
	new    func() hash.Hash
	rounds int
	salt   []byte
	text   string // the sum as it is written
}

// parseSHACrypt parses a whole hash: $5$ or $6$, then [rounds=N$]salt$sum.
func parseSHACrypt(text string) (verifier, error) {
	h := &shaCrypt{new: sha256.New, rounds: defaultRounds}
	length := 43
	if text[1] == '6' {
		h.new, length = sha512.New, 86
	}
	rest := text[len("$5$"):]
	if after, ok := strings.CutPrefix(rest, "rounds="); ok {
		rounds, after, _ := strings.Cut(after, "$")
		n, err := strconv.ParseUint(rounds, 10, 32)
		if err != nil || n < minRounds || n > maxRounds {
			return nil, fmt.Errorf("the rounds of a SHA-crypt hash must be %d to %d", minRounds, maxRounds)
		}
		h.rounds, rest = int(n), after
	}
	salt, sum, ok := strings.Cut(rest, "$")
	if !ok || len(salt) > 16 || len(sum) != length {
		return nil, errors.New("a SHA-crypt hash must end in a salt of at most 16 characters, a dollar sign and " +
			strconv.Itoa(length) + " characters")
	}
	h.salt, h.text = []byte(salt), sum
	return h, nil
}

func (h *shaCrypt) verify(password string) bool {
	return subtle.ConstantTimeCompare(encodeSHACrypt(h.sum([]byte(password))), []byte(h.text)) == 1
}

// sum follows the steps of the specification; the names are its own, in lower case.
func (h *shaCrypt) sum(password []byte) []byte {
	b := h.new()
	write(b, password, h.salt, password)
	alternate := b.Sum(nil)

	a := h.new()
	write(a, password, h.salt, cycle(alternate, len(password)))
	for n := len(password); n > 0; n >>= 1 {
		if n&1 != 0 {
			a.Write(alternate)
		} else {
			a.Write(password)
		}
	}
	sum := a.Sum(nil)

	b.Reset()
	write(b, bytes.Repeat(password, len(password)))
	p := cycle(b.Sum(nil), len(password))
	b.Reset()
	write(b, bytes.Repeat(h.salt, 16+int(sum[0])))
	s := cycle(b.Sum(nil), len(h.salt))

	for i := range h.rounds {
		first, last := sum, p
		if i%2 != 0 {
			first, last = p, sum
		}
		a.Reset()
		a.Write(first)
		if i%3 != 0 {
			a.Write(s)
		}
		if i%7 != 0 {
			a.Write(p)
		}
		a.Write(last)
		sum = a.Sum(sum[:0])
	}
	return sum
}

func write(h hash.Hash, parts ...[]byte) {
	for _, part := range parts {
		h.Write(part)
	}
}

// cycle returns n bytes of block, block, block …
func cycle(block []byte, n int) []byte {
	return bytes.Repeat(block, n/len(block)+1)[:n]
}

// encodeSHACrypt writes a sum in an alphabet and an order of its own: three bytes, a third of the sum apart, make four
// characters, the least significant first, and from one three to the next the bytes rotate.
func encodeSHACrypt(sum []byte) []byte {
	const alphabet = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	var text []byte
	emit := func(high, middle, low byte, chars int) {
		for w := uint32(high)<<16 | uint32(middle)<<8 | uint32(low); chars > 0; chars-- {
			text = append(text, alphabet[w&63])
			w >>= 6
		}
	}
	third := len(sum) / 3
	i, j, k := 0, third, 2*third
	for range third {
		emit(sum[i], sum[j], sum[k], 4)
		if len(sum) == sha512.Size {
			i, j, k = j+1, k+1, i+1
		} else {
			i, j, k = k+1, i+1, j+1
		}
	}
	if len(sum) == sha512.Size {
		emit(0, 0, sum[63], 2)
	} else {
		emit(0, sum[31], sum[30], 3)
	}
	return text
}

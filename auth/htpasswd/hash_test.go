package htpasswd

import (
	"strings"
	"testing"
)

// The vectors of the specification of SHA-crypt that keep to our bounds, and some of glibc's for its corners.
func TestSHACrypt(t *testing.T) {
	long := "a very much longer text to encrypt.  This one even stretches over morethan one line."
	for text, password := range map[string]string{
		"$5$saltstring$5B8vYYiY.CVt1RlTTf8KbXBH3hsxY/GNooZaBBGWEc5":                                                                "Hello world!",
		"$5$rounds=10000$saltstringsaltst$3xv.VbSHBb41AL9AvLeujZkZRBAwqFMz2.opqey6IcA":                                             "Hello world!",
		"$5$rounds=5000$toolongsaltstrin$Un/5jzAHMgOGZ5.mWJpuVolil07guHPvOW8mGRcvxa5":                                              "This is just a test",
		"$5$rounds=1400$anotherlongsalts$Rx.j8H.h8HjEDGomFU8bDkXm3XIUnzyxf12oP84Bnq1":                                              long,
		"$5$rounds=77777$short$JiO1O3ZpDAxGJeaDIuqCoEFysAe1mZNJRs3pw0KQRd/":                                                        "we have a short salt string but not a short password",
		"$5$rounds=123456$asaltof16chars..$gP3VQ/6X7UUEW3HkBn2w1/Ptq2jxPyzV/cZKmF/wJvD":                                            "a short string",
		"$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1":                     "Hello world!",
		"$6$rounds=10000$saltstringsaltst$OW1/O6BYHV6BcXZu8QVeXbDWra3Oeqh0sbHbbMCVNSnCM/UrjmM0Dp8vOuZeHBy/YTBmSK6H9qs/y3RnOaw5v.":  "Hello world!",
		"$6$rounds=5000$toolongsaltstrin$lQ8jolhgVRVhY4b5pZKaysCLi0QBxGoNeKQzQ3glMhwllF7oGDZxUhx1yxdYcz/e1JSbq3y6JMxxl8audkUEm0":   "This is just a test",
		"$6$rounds=1400$anotherlongsalts$POfYwTEok97VWcjxIiSOjiykti.o/pQs.wPvMxQ6Fm7I6IoYN3CmLs66x9t0oSwbtEW7o7UmJEiDwGqd8p4ur1":   long,
		"$6$rounds=77777$short$WuQyW2YR.hBNpjjRhpYD/ifIw05xdfeEyQoMxIXbkvr0gge1a1x3yRULJ5CCaUeOxFmtlcGZelFl5CxtgfiAc0":             "we have a short salt string but not a short password",
		"$6$rounds=123456$asaltof16chars..$BtCwjqMJGx5hrJhZywWvt0RLE8uZ4oPwcelCjmw2kSYu.Ec6ycULevoBK25fs2xXgMNrCzIMVcgEJAstJeonj1": "a short string",
		"$5$$3c2QQ0KjIU1OLtB29cl8Fplc2WN7X89bnoEjaR7tWu.":                                                                          "",
		"$5$s$u4TllWrMpiHqQPhResa84Z3jgLbujOZ12UMbzQXrgF9":                                                                         strings.Repeat("p", 200),
		"$6$$KvRrc0bxRLyTUhO8OJOmRczh7oCol5BACiR8rmdfVzvuGgm8JmLDumsL/ah.jFtT.DswxoP9Nv3ByfU4j5hm/0":                               "x",
	} {
		kind, hash, err := parseHash(text)
		if err != nil || kind != map[byte]Kind{'5': SHA256, '6': SHA512}[text[1]] {
			t.Errorf("%s: %s, %v", text, kind, err)
			continue
		}
		if !hash.verify(password) || hash.verify(password+"x") {
			t.Errorf("%s: the right password is refused, or a wrong one taken", text)
		}
	}
}

// The vectors are of the reference implementations: John the Ripper's for bcrypt, phc-winner-argon2's.
func TestHashes(t *testing.T) {
	for _, test := range []struct {
		kind           Kind
		text, password string
	}{
		{Bcrypt, "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "U*U"},
		{Bcrypt, "$2b$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "U*U"},
		{Bcrypt, "$2y$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW", "U*U"},
		{Argon2id, "$argon2id$v=19$m=65536,t=2,p=1$c29tZXNhbHQ$CTFhFdXPJO1aFaMaO6Mm5c8y7cJHAph8ArZWb2GRPPc", "password"},
		{Argon2id, "$argon2id$v=19$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4", "password"},
	} {
		kind, hash, err := parseHash(test.text)
		if err != nil || kind != test.kind {
			t.Errorf("%s: %s, %v", test.text, kind, err)
			continue
		}
		if !hash.verify(test.password) || hash.verify(test.password+"x") {
			t.Errorf("%s: the right password is refused, or a wrong one taken", test.text)
		}
	}
}

func TestHashesRefused(t *testing.T) {
	sum43, sum86 := strings.Repeat("a", 43), strings.Repeat("a", 86)
	for text, reason := range map[string]string{
		"":                                   "plain password",
		"secret":                             "plain password",
		"rqXexS6ZhobKA":                      "plain password or DES",
		"{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=":  "SHA-1",
		"{SSHA}5en6G6MezRroT3XKqkdPOmY/BfQ=": "SHA-1",
		"{PLAIN}secret":                      "unknown kind",
		"$apr1$x$y":                          "MD5",
		"$1$x$y":                             "MD5",
		"$2x$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW": "unknown kind",
		"$2y$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOe":  "malformed",
		"$2y$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyO:W": "malformed",
		"$2y$05$CCCCCCCC CCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW": "malformed",
		"$2y$03$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW": "malformed",
		"$2y$17$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW": "cost",
		"$5$salt":                             "SHA-crypt",
		"$5$salt$short":                       "SHA-crypt",
		"$5$saltsaltsaltsalts$" + sum43:       "SHA-crypt",
		"$6$salt$" + sum43:                    "SHA-crypt",
		"$5$rounds=999$salt$" + sum43:         "rounds",
		"$6$rounds=1000001$salt$" + sum86:     "rounds",
		"$6$rounds=99999999999$salt$" + sum86: "rounds",
		"$6$rounds=-5000$salt$" + sum86:       "rounds",
		"$argon2id$v=16$m=256,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4":        "malformed",
		"$argon2id$v=19$m=256,t=2,p=1,x=2$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4":    "malformed",
		"$argon2id$v=19$m=256,t=02,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4":       "malformed",
		"$argon2id$v=19$m=4294967296,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4": "malformed",
		"$argon2id$v=19$m=262145,t=2,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4":     "parameters",
		"$argon2id$v=19$m=256,t=0,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4":        "parameters",
		"$argon2id$v=19$m=256,t=17,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4":       "parameters",
		"$argon2id$v=19$m=256,t=1,p=0$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4":        "parameters",
		"$argon2id$v=19$m=256,t=1,p=257$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4":      "parameters",
		"$argon2id$v=19$m=7,t=1,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4":          "parameters",
		"$argon2id$v=19$m=256,t=1,p=1$c29t$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4":               "malformed",
		"$argon2id$v=19$m=256,t=1,p=1$c29tZXNhbHQ$nf65":                                               "malformed",
		"$argon2id$v=19$m=256,t=1,p=1$c29tZXNhbHQ":                                                    "malformed",
		"$argon2i$v=19$m=256,t=1,p=1$c29tZXNhbHQ$nf65EOgLrQMR/uIPnA4rEsF5h7TKyQwu9U1bMCHGi/4":         "unknown kind",
	} {
		_, _, err := parseHash(text)
		if err == nil || !strings.Contains(err.Error(), reason) {
			t.Errorf("%s: got %v, want an error about %q", text, err, reason)
		} else if len(text) > 20 && strings.Contains(err.Error(), text[len(text)-10:]) {
			t.Errorf("the error repeats the hash: %v", err)
		}
	}
}

func TestEmptyIsAHash(t *testing.T) {
	if _, _, err := parseHash(empty); err != nil {
		t.Error(err)
	}
}

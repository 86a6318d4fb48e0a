package jwt

// For tests that make tokens as other software does.
var (
	Thumbprint  = thumbprint
	Fingerprint = fingerprint
)

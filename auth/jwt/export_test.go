package jwt

// For tests.
var (
	Thumbprint    = thumbprint
	Fingerprint   = fingerprint
	ParseMetadata = parseMetadata
)

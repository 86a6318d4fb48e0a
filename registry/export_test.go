package registry

// ParseDocument returns the media type that parseDocument finds.
func ParseDocument(contentType string, body []byte) (string, error) {
	doc, err := parseDocument(contentType, body)
	if err != nil {
		return "", err
	}
	return doc.mediaType, nil
}

// MentionedDigests returns the digests that a collection finds in a document, and those that parsing it finds.
func MentionedDigests(document []byte) (found, parsed []Digest) {
	s, err := scanJSON(document, maxMembers)
	if err != nil {
		panic(err)
	}
	if found, err = mentionedDigests("key", document); err != nil {
		panic(err)
	}
	return found, s.digests
}

// ReadRecord decodes a record as each kind of header, and returns its payload.
func ReadRecord(body []byte) (payload []byte, err error) {
	for _, header := range []record{&blobRecord{}, &linkRecord{}, &manifestRecord{}, &tagRecord{}, &referrersRecord{}, &uploadRecord{}} {
		if payload, err = decodeRecord("key", body, header); err != nil {
			return nil, err
		}
		if again, err := decodeRecord("key", encodeRecord(header, payload), header); err != nil || string(again) != string(payload) {
			panic("a record does not survive being rewritten")
		}
	}
	return payload, nil
}

// StoredDigests returns the digests that a collection finds in a document.
func StoredDigests(document []byte) ([]Digest, error) { return mentionedDigests("key", document) }

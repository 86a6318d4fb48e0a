package observe

import (
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"
)

const (
	flushInterval = 200 * time.Millisecond
	flushSize     = 64 << 10 // bytes; a buffer that holds more is written at once
)

// An AccessLog writes one line for each request; of those that ask for no more than how the server is, one in a minute, and
// each whose status is another than that of the last. Lines are gathered and written about every 200 ms; a slow writer slows
// the requests down rather than lose lines. Safe for concurrent use.
type AccessLog struct {
	format func(line []byte, x *Exchange, r *http.Request, now time.Time) []byte
	stop   chan struct{}
	done   chan struct{}
	once   sync.Once

	writing sync.Mutex // held while writing, so that lines stay in order; taken before mu
	w       io.Writer
	spare   []byte
	err     error // the last error of w

	mu     sync.Mutex
	buffer []byte
	second int64                // that stamp is of, since 1970
	stamp  []byte               // the time in combined lines: to write it takes longer than all the rest
	quiet  map[string]quietLine // by path, of which there are few
}

// A quietLine is the last line of requests that are not all worth one.
type quietLine struct {
	at     time.Time
	status int
}

// quietInterval is the time between two lines of requests that are not all worth one.
const quietInterval = time.Minute

// NewAccessLog makes an access log in the combined format of web servers, with the request id and the duration in
// milliseconds at the end; or, when json is true, of JSON objects.
func NewAccessLog(w io.Writer, json bool) *AccessLog {
	l := &AccessLog{w: w, stop: make(chan struct{}), done: make(chan struct{})}
	if l.format = l.combined; json {
		l.format = jsonLine
	}
	go l.run()
	return l
}

func (l *AccessLog) run() {
	defer close(l.done)
	tick := time.NewTicker(flushInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			l.flush()
		case <-l.stop:
			return
		}
	}
}

// Close writes what is left and returns the last error of writing. Lines added later are written by another Close.
func (l *AccessLog) Close() error {
	l.once.Do(func() { close(l.stop) })
	<-l.done
	l.flush()
	l.writing.Lock()
	defer l.writing.Unlock()
	return l.err
}

func (l *AccessLog) add(x *Exchange, r *http.Request, now time.Time) {
	l.mu.Lock()
	if x.Quiet && !l.worth(x, r, now) {
		l.mu.Unlock()
		return
	}
	l.buffer = l.format(l.buffer, x, r, now)
	full := len(l.buffer) >= flushSize
	l.mu.Unlock()
	if full {
		l.flush()
	}
}

// worth reports whether a quiet exchange gets a line. It is called with mu held.
func (l *AccessLog) worth(x *Exchange, r *http.Request, now time.Time) bool {
	last, is := l.quiet[r.URL.Path], quietLine{now, x.finalStatus()}
	if last.status == is.status && now.Sub(last.at) < quietInterval {
		return false
	}
	if l.quiet == nil {
		l.quiet = make(map[string]quietLine)
	}
	l.quiet[r.URL.Path] = is
	return true
}

func (l *AccessLog) flush() {
	l.writing.Lock()
	defer l.writing.Unlock()
	l.mu.Lock()
	lines := l.buffer
	l.buffer = l.spare[:0]
	l.mu.Unlock()
	if len(lines) > 0 {
		if _, err := l.w.Write(lines); err != nil {
			l.err = err
		}
	}
	l.spare = lines
}

// combined is called with mu held.
func (l *AccessLog) combined(b []byte, x *Exchange, r *http.Request, now time.Time) []byte {
	if second := now.Unix(); second != l.second || l.stamp == nil {
		l.second, l.stamp = second, now.AppendFormat(l.stamp[:0], "02/Jan/2006:15:04:05 -0700")
	}
	b = append(b, host(r.RemoteAddr)...)
	b = appendUser(append(b, " - "...), x.Subject)
	b = append(append(b, " ["...), l.stamp...)
	b = appendEscaped(append(b, `] "`...), r.Method)
	b = appendEscaped(append(b, ' '), r.RequestURI)
	b = append(append(append(b, ' '), r.Proto...), `" `...)
	b = strconv.AppendInt(b, int64(x.finalStatus()), 10)
	b = strconv.AppendInt(append(b, ' '), x.written, 10)
	b = appendEscaped(append(b, ` "`...), first(r.Header["Referer"]))
	b = appendEscaped(append(b, `" "`...), first(r.Header["User-Agent"]))
	b = append(append(append(b, `" `...), x.ID...), ' ')
	return append(strconv.AppendInt(b, now.Sub(x.start).Milliseconds(), 10), '\n')
}

// jsonLine uses the field names of CNCF distribution, which log pipelines know.
func jsonLine(b []byte, x *Exchange, r *http.Request, now time.Time) []byte {
	field := func(name, value string) {
		b = append(append(append(b, `,"`...), name...), `":"`...)
		b = append(appendEscaped(b, value), '"')
	}
	b = append(b, `{"level":"info","msg":"response completed"`...)
	b = now.AppendFormat(append(b, `,"time":"`...), time.RFC3339Nano)
	b = append(b, '"')
	field("http.request.id", x.ID)
	field("http.request.method", r.Method)
	field("http.request.host", r.Host)
	field("http.request.uri", r.RequestURI)
	field("http.request.remoteaddr", r.RemoteAddr)
	field("http.request.useragent", first(r.Header["User-Agent"]))
	if x.Subject != "" {
		field("auth.user.name", x.Subject)
	}
	b = strconv.AppendInt(append(b, `,"http.response.status":`...), int64(x.finalStatus()), 10)
	b = strconv.AppendInt(append(b, `,"http.response.written":`...), x.written, 10)
	b = strconv.AppendFloat(append(b, `,"http.response.duration":`...), now.Sub(x.start).Seconds(), 'f', 6, 64)
	return append(b, "}\n"...)
}

// finalStatus is the status of a finished exchange: net/http answers 200 for a handler that wrote nothing.
func (x *Exchange) finalStatus() int {
	if x.status == 0 {
		return http.StatusOK
	}
	return x.status
}

func host(addr string) string {
	if h, _, err := net.SplitHostPort(addr); err == nil {
		return h
	}
	return "-"
}

// appendUser appends a name that stands without quotes: "-" for nobody, and no blanks.
func appendUser(b []byte, s string) []byte {
	if s == "" {
		return append(b, '-')
	}
	return appendEscaped(b, strings.ReplaceAll(s, " ", "_"))
}

// first returns the first value of a header.
func first(values []string) string {
	if len(values) == 0 {
		return ""
	}
	return values[0]
}

// appendEscaped appends s for use between quotes, in JSON too: no input can end a field or a line.
func appendEscaped(b []byte, s string) []byte {
	plain := 0 // from where on nothing had to be escaped
	for i := 0; i < len(s); {
		if c := s[i]; ' ' <= c && c < 0x7f && c != '"' && c != '\\' {
			i++
			continue
		}
		b = append(b, s[plain:i]...)
		r, size := utf8.DecodeRuneInString(s[i:])
		b = appendRune(b, r)
		i += size
		plain = i
	}
	return append(b, s[plain:]...)
}

func appendRune(b []byte, r rune) []byte {
	const digits = "0123456789abcdef"
	switch {
	case r == '"' || r == '\\':
		return append(b, '\\', byte(r))
	case r < ' ' || r == 0x7f:
		return append(append(b, `\u00`...), digits[r>>4], digits[r&15])
	case !unicode.IsPrint(r): // U+2028, U+0085: line ends to some readers
		return utf8.AppendRune(b, utf8.RuneError)
	}
	return utf8.AppendRune(b, r)
}

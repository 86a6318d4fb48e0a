package server

import (
	"fmt"
	"io"
	"maps"
	"runtime"
	"time"

	"github.com/sirupsen/logrus"
)

// LogOptions is the section log of the configuration.
type LogOptions struct {
	Level        string // error, warn, info or debug
	Formatter    string // text, json or logstash
	Fields       map[string]string
	ReportCaller bool
	Instance     string // a name of this process, "" for none
	Version      string // of the program, "" for none
}

// NewLogger makes the logger that writes to w. Its fields have the names that CNCF distribution and the OpenShift registry use;
// those of the configuration win.
func NewLogger(w io.Writer, o LogOptions) (*logrus.Logger, error) {
	level, err := logrus.ParseLevel(o.Level)
	if err != nil {
		return nil, fmt.Errorf("log.level: %w", err)
	}
	l := logrus.New()
	l.SetOutput(w)
	l.SetLevel(level)
	l.SetReportCaller(o.ReportCaller)
	fields := logrus.Fields{"go.version": runtime.Version()}
	if o.Instance != "" {
		fields["instance.id"] = o.Instance
	}
	if o.Version != "" {
		fields["version"] = o.Version
	}
	for name, value := range o.Fields {
		fields[name] = value
	}
	switch o.Formatter {
	case "text":
		l.SetFormatter(&logrus.TextFormatter{FullTimestamp: true, TimestampFormat: time.RFC3339Nano})
	case "json":
		l.SetFormatter(&logrus.JSONFormatter{TimestampFormat: time.RFC3339Nano})
	case "logstash":
		l.SetFormatter(&logrus.JSONFormatter{TimestampFormat: time.RFC3339Nano,
			FieldMap: logrus.FieldMap{logrus.FieldKeyTime: "@timestamp", logrus.FieldKeyMsg: "message"}})
		fields["@version"] = "1"
	default:
		return nil, fmt.Errorf("log.formatter: %q is not text, json or logstash", o.Formatter)
	}
	l.AddHook(fieldsHook(fields))
	return l, nil
}

// fieldsHook adds fields to every entry.
type fieldsHook logrus.Fields

func (h fieldsHook) Levels() []logrus.Level { return logrus.AllLevels }

func (h fieldsHook) Fire(e *logrus.Entry) error {
	data := maps.Clone(e.Data)
	if data == nil {
		data = logrus.Fields{}
	}
	for name, value := range h {
		if _, taken := data[name]; !taken {
			data[name] = value
		}
	}
	e.Data = data
	return nil
}

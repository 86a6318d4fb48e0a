package trace

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
)

// An exporter sends spans by OTLP/HTTP with JSON (opentelemetry-proto, docs/specification.md, section "OTLP/HTTP"). A batch that
// cannot be sent is lost: what is measured must not hold up, or fill the memory of, what it measures.
type exporter struct {
	target *target
	failed func(error)
}

// The messages of the protocol, as far as they are used.
type (
	traces struct {
		ResourceSpans []resourceSpans `json:"resourceSpans"`
	}
	resourceSpans struct {
		Resource   attributes   `json:"resource"`
		ScopeSpans []scopeSpans `json:"scopeSpans"`
	}
	attributes struct {
		Attributes []keyValue `json:"attributes"`
	}
	scopeSpans struct {
		Scope scope  `json:"scope"`
		Spans []span `json:"spans"`
	}
	scope struct {
		Name    string `json:"name"`
		Version string `json:"version"`
	}
	span struct {
		TraceID    string     `json:"traceId"`
		SpanID     string     `json:"spanId"`
		ParentID   string     `json:"parentSpanId,omitempty"`
		Name       string     `json:"name"`
		Kind       int        `json:"kind"`
		Start      string     `json:"startTimeUnixNano"`
		End        string     `json:"endTimeUnixNano"`
		Attributes []keyValue `json:"attributes"`
		Status     status     `json:"status"`
	}
	status struct {
		Code    int    `json:"code"`
		Message string `json:"message,omitempty"`
	}
	keyValue struct {
		Key   string         `json:"key"`
		Value map[string]any `json:"value"`
	}
)

// ExportSpans is part of [sdk.SpanExporter].
func (e *exporter) ExportSpans(ctx context.Context, spans []sdk.ReadOnlySpan) error {
	if len(spans) == 0 {
		return nil
	}
	if err := e.send(ctx, message(spans)); err != nil {
		e.failed(fmt.Errorf("send %d spans: %w", len(spans), err))
	}
	return nil
}

// Shutdown is part of [sdk.SpanExporter].
func (e *exporter) Shutdown(context.Context) error {
	e.target.client.CloseIdleConnections()
	return nil
}

func (e *exporter) send(ctx context.Context, m traces) error {
	body, err := json.Marshal(m)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, e.target.url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	r.Header = e.target.headers.Clone()
	r.Header.Set("Content-Type", "application/json")
	answer, err := e.target.client.Do(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	_, _ = io.CopyN(io.Discard, answer.Body, 64<<10) // so that the connection can be used again
	if answer.StatusCode/100 != 2 {
		return fmt.Errorf("the collector answers %s", answer.Status)
	}
	return nil
}

func message(spans []sdk.ReadOnlySpan) traces {
	first := spans[0]
	all := scopeSpans{Scope: scope{first.InstrumentationScope().Name, first.InstrumentationScope().Version}}
	for _, s := range spans {
		all.Spans = append(all.Spans, encode(s))
	}
	return traces{[]resourceSpans{{attributes{pairs(first.Resource().Attributes())}, []scopeSpans{all}}}}
}

func encode(s sdk.ReadOnlySpan) span {
	out := span{
		TraceID: s.SpanContext().TraceID().String(), SpanID: s.SpanContext().SpanID().String(), Name: s.Name(), Kind: int(s.SpanKind()),
		Start: strconv.FormatInt(s.StartTime().UnixNano(), 10), End: strconv.FormatInt(s.EndTime().UnixNano(), 10), Attributes: pairs(s.Attributes()),
	}
	if s.Parent().HasSpanID() {
		out.ParentID = s.Parent().SpanID().String()
	}
	switch s.Status().Code { // the protocol numbers them otherwise than the library
	case codes.Ok:
		out.Status.Code = 1
	case codes.Error:
		out.Status = status{2, s.Status().Description}
	}
	return out
}

func pairs(list []attribute.KeyValue) []keyValue {
	out := make([]keyValue, 0, len(list))
	for _, a := range list {
		value := map[string]any{"stringValue": a.Value.Emit()}
		switch a.Value.Type() {
		case attribute.INT64:
			value = map[string]any{"intValue": a.Value.Emit()} // 64 bits are text in JSON
		case attribute.BOOL:
			value = map[string]any{"boolValue": a.Value.AsBool()}
		}
		out = append(out, keyValue{string(a.Key), value})
	}
	return out
}

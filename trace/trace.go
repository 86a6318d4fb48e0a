// Package trace sends spans of requests and of calls of the storage to a collector of OpenTelemetry, as the standard variables
// OTEL_* say. It is off without them, and costs nothing then.
package trace

import (
	"context"
	"fmt"
	"net/http"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	api "go.opentelemetry.io/otel/trace"
)

// A Tracer makes spans. It is safe for concurrent use.
type Tracer struct {
	provider *sdk.TracerProvider
	tracer   api.Tracer
	parents  propagation.TraceContext
}

// Open makes the tracer that the variables ask for, nil when they ask for none: without an endpoint and without
// OTEL_TRACES_EXPORTER=otlp, with OTEL_TRACES_EXPORTER=none or with OTEL_SDK_DISABLED=true. The sampler, the batches and the
// resource (OTEL_TRACES_SAMPLER, OTEL_BSP_*, OTEL_RESOURCE_ATTRIBUTES, OTEL_SERVICE_NAME) are read by OpenTelemetry's library.
// failed is told of spans that could not be sent.
func Open(ctx context.Context, getenv func(string) string, version string, failed func(error)) (*Tracer, error) {
	target, err := targetOf(getenv)
	if err != nil || target == nil {
		return nil, err
	}
	about, err := resource.New(ctx, resource.WithAttributes(attribute.String("service.name", "berth"), attribute.String("service.version", version)),
		resource.WithTelemetrySDK(), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	provider := sdk.NewTracerProvider(sdk.WithBatcher(&exporter{target: target, failed: failed}), sdk.WithResource(about))
	return &Tracer{provider: provider, tracer: provider.Tracer("berth", api.WithInstrumentationVersion(version))}, nil
}

// Close sends what is left, until ctx ends.
func (t *Tracer) Close(ctx context.Context) error { return t.provider.Shutdown(ctx) }

// An Answer is how a request ended.
type Answer struct {
	ID     string // of the request, as in the logs
	Route  string
	Status int
	Sent   int64 // bytes of body
}

// Request begins the span of a request, below that of a client which sent one (traceparent). end is to be called once.
func (t *Tracer) Request(r *http.Request) (_ context.Context, end func(Answer)) {
	ctx := t.parents.Extract(r.Context(), propagation.HeaderCarrier(r.Header))
	ctx, span := t.tracer.Start(ctx, r.Method, api.WithSpanKind(api.SpanKindServer), api.WithAttributes(
		attribute.String("http.request.method", r.Method), attribute.String("url.path", r.URL.Path),
		attribute.String("user_agent.original", r.UserAgent())))
	return ctx, func(a Answer) {
		span.SetName(r.Method + " " + a.Route)
		span.SetAttributes(attribute.String("http.route", a.Route), attribute.String("http.request.id", a.ID),
			attribute.Int("http.response.status_code", a.Status), attribute.Int64("http.response.body.size", a.Sent))
		if a.Status >= 500 {
			span.SetStatus(codes.Error, "")
		}
		span.End()
	}
}

// Call begins the span of a call of the storage, such as "put" of a key. end is to be called once, with what the call returned.
func (t *Tracer) Call(ctx context.Context, operation, key string) (_ context.Context, end func(error)) {
	ctx, span := t.tracer.Start(ctx, "storage "+operation, api.WithSpanKind(api.SpanKindClient),
		api.WithAttributes(attribute.String("storage.operation", operation), attribute.String("storage.key", key)))
	return ctx, func(err error) {
		if err != nil {
			span.SetStatus(codes.Error, err.Error())
		}
		span.End()
	}
}

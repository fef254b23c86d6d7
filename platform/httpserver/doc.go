// Package httpserver is the HTTP of every Altyn process: a server that drains (Run), a router whose every request has
// an ID, a trace, a log line and metrics (NewRouter), errors as problem+json (Problem, Handle), and strict reading of
// requests (DecodeJSON, Page, Wait, IdempotencyKey, PathUUID).
//
// A handler is a function that returns an error:
//
//	router := httpserver.NewRouter(httpserver.Options{Logger: logger, Registerer: registry, Classify: problemOf})
//	router.Post("/api/v1/orders", httpserver.Handle(func(w http.ResponseWriter, r *http.Request) error {
//		var request placeOrder
//		if err := httpserver.DecodeJSON(w, r, &request); err != nil {
//			return err
//		}
//		…
//		return httpserver.WriteJSON(w, http.StatusCreated, order)
//	}))
//
// # Log
//
// Each request is one line. At the default level successes cost nothing: 2xx and 3xx are logged at debug, and so are
// the probes of /healthz, /readyz and /metrics, whatever they answer; 4xx at info; 5xx at error, with the cause. A
// client that left before its answer is no error: it is logged at debug, with status 499.
//
// # Bounds
//
// Headers must arrive within 5 s and fit into 32 KiB, a body within 15 s, and a JSON body into 1 MiB; an answer must
// be written within 60 s of its request (Server.WriteTimeout). Bodies in flight share the room of Config.BodyMemory;
// each takes what has arrived of it. A Stream has no such deadline; instead each write to it has 30 s. Shutdown waits
// at most 10 s for the requests in flight.
package httpserver

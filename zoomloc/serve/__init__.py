"""Locating photos over HTTP: `app` (routes), `gate` (who may send what), `question` (what a request asks), `worker`
(answers, in batches across requests), `record` (metrics, log), `listen` (the port)."""

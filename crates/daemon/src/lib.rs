//! What the NSQ daemons share: options, logging, HTTP, tasks and shutdown.

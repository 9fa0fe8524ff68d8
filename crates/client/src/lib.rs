//! An asynchronous NSQ client: Consumer and Producer.

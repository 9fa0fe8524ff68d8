//! The NSQ utilities: nsq_tail and to_nsq.

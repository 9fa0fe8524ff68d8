//! Topics and channels as a scheduler of sequence numbers: fan-out, in flight, deferred, fair hand-out.

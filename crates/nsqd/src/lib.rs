//! nsqd, the daemon that receives, stores and delivers NSQ messages.

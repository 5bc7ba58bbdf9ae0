//! Whole jobs on the embedded broker, over TCP.

mod exactly_once;

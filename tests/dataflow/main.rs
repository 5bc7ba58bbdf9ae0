//! Whole jobs on the embedded broker, over TCP.

mod disk;
mod doubt;
mod exactly_once;
mod rig;
mod starts;

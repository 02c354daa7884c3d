//! What only a server can do to the service: other instances at the same database, connections that end
//! at any moment, a server that goes and comes, and passwords.
//!
//! What holds on both engines is tested beside this folder.

mod failed_starts;
mod failover;
mod holds;
mod instances;
mod lanes;
mod lost_connections;
mod passwords;
mod plans;
mod poolers;
mod quoting;
mod restarts;
mod surroundings;

pub mod digest;
pub mod graph;
pub mod spec;
pub mod stage;
pub mod suggest;

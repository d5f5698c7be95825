pub mod digest;
pub mod draw;
pub mod graph;
pub mod schema;
pub mod spec;
pub mod stage;
pub mod suggest;

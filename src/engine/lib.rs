pub mod digest;
pub mod stage;
pub mod suggest;

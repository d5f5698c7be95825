//! The one place that names a hash map or set: lookups only, by key, never iterated into anything that is kept or shown.

#[expect(clippy::disallowed_types, reason = "lookups of ten thousand paths a run; iteration order is never used")]
pub(crate) type FastMap<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;

#[expect(clippy::disallowed_types, reason = "lookups only, as above")]
pub(crate) type FastSet<T> = std::collections::HashSet<T, foldhash::fast::RandomState>;

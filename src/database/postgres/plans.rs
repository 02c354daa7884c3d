//! How the server plans the statements that serve requests: alike whenever that happens, and once.
//!
//! All of them look for a few rows by an index. A plan that rests on what the server counted while a table
//! was nearly empty, or of another kind of rows, may walk a table that has grown meanwhile, for each batch;
//! and to plan such a statement takes longer than to carry it out.
//!
//! A plan is made once for a session, perhaps while there are hardly any rows, and kept. What is joined with rows of a
//! table therefore asks for `column = ANY(ARRAY[value])`, and rows are deleted by `id = ANY(ARRAY(SELECT …))`: unlike
//! an equation or `IN`, these can only be looked up by an index, never be met half-way by a walk through all of it.

/// Settings of a session, or of each transaction in it, that serves requests.
pub(super) const PLANS: [(&str, &str); 5] = [
    // Not again for each value: an empty list would imply the condition of any partial index.
    ("plan_cache_mode", "force_generic_plan"),
    // Ways to walk a whole table, or a whole index. Where there is no other they are taken all the same,
    ("enable_seqscan", "off"),
    ("enable_hashjoin", "off"),
    ("enable_mergejoin", "off"),
    // and then look so costly that they would be compiled first.
    ("jit", "off"),
];

//! The names of deleted handlers, from their history.

/// SQL for the last name of the handler whose id is the expression `$id`; null without a history.
///
/// This costs one index look-up a row. Use it for few rows, or as the second argument of `coalesce`, which PostgreSQL
/// evaluates only if the first is null.
macro_rules! last_name {
    ($id:literal) => {
        concat!(
            "(SELECT coalesce(past.after, past.before) ->> 'name' FROM handler_history past WHERE past.handler_id = ",
            $id,
            " ORDER BY past.id DESC LIMIT 1)"
        )
    };
}

pub(in crate::store) use last_name;

//! Whether a verb looks at its subject, past nouns of the other number.
//!
//! `The keys to the old cabinet are here.`: between subject and verb stand up to [`MAX_ATTRACTORS`] nouns of the
//! other number (Linzen, Dupoux and Goldberg 2016). A head is right about an item if the subject gets more of
//! the verb's attention than every attractor does; without attractors there is nothing to be right about, and
//! only the mass is given. A model is right if the verb of the subject's number is more probable than the other,
//! where the verb is predicted.

mod items;
mod probe;

pub use items::{Item, MAX_ATTRACTORS, generate_congruent_items, generate_items, read_items};
pub use probe::{Agreement, AgreementHead, DISTANCES, probe_agreement, probe_verbs};

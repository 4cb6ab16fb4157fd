//! Whether a pronoun's strongest candidate means what the pronoun means.
//!
//! Candidates of a third-person pronoun are the mentions that end before it in its sentence and the one before. Only
//! pronouns with an antecedent among them and at least two entities to choose from are asked about. A head's choice is the
//! word with the most of the pronoun's attention among the words of all candidates (to a word the sum over its pieces,
//! from the pronoun the mean); it means what the smallest candidate around it means. The head is chosen on some books
//! and reported on others.

mod look;
mod pronoun;
mod score;
mod window;

pub use look::CoreferencePicks;
pub use pronoun::{Pronoun, count_pronouns, pronouns};
pub use score::{Coreference, DISTANCES, Rival, score_coreference};

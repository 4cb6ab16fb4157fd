//! Whether a pronoun's strongest candidate means what the pronoun means.
//!
//! Candidates of a third-person pronoun are the mentions that end before it in its sentence and the one before.
//! Only pronouns with an antecedent among them and at least two entities to choose from are asked about. A
//! head's choice is the word with the most of the pronoun's attention among the words of all candidates (to a
//! word the sum over its pieces, from the pronoun the mean); it means what the smallest candidate around it
//! means. The head is chosen on some books and reported on others.

mod look;
mod pronoun;
mod score;
mod window;

pub use look::CoreferencePicks;
pub use pronoun::{Pronoun, count_pronouns, pronouns};
pub use score::{Coreference, DISTANCES, Rival, score_coreference};

use super::coreference_file::Book;
use super::random::Random;

/// How many of ten books choose heads, where nobody says which; the rest report.
const CHOOSING: usize = 6;

/// The books that choose heads and those that report, six to four, by chance and the seed. A book's place
/// depends on its name, not on the order of the files.
pub fn split_books(mut books: Vec<Book>, seed: u64) -> [Vec<Book>; 2] {
    // FNV-1a of the name.
    let hash = |name: &str| {
        name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
        })
    };
    books.sort_by_cached_key(|book| (Random::new(seed ^ hash(&book.name)).next(), book.name.clone()));
    let reporting = books.split_off((books.len() * CHOOSING).div_ceil(10));
    [books, reporting]
}

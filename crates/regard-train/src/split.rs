//! Which of LitBank's 100 books are trained on, chosen on and reported on.

use crate::sentences::templates::Part;

const TABLE: &str = include_str!("../litbank-split.txt");

/// A book of LitBank (Bamman, Lewke and Mansoor 2020).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Book {
    /// The name of its files, without what comes after a dot or `_brat`.
    pub name: &'static str,
    /// What it is for.
    pub part: Part,
}

/// All books, by number: 60 to train on, 20 to choose heads on, 20 to report on. The choice was made once, by seed
/// (`litbank-split.txt`).
pub fn books() -> impl Iterator<Item = Book> {
    TABLE.lines().filter(|line| !line.starts_with('#')).filter_map(|line| {
        let (part, name) = line.split_once(' ')?;
        let part = match part {
            "train" => Part::Train,
            "dev" => Part::Dev,
            _ => Part::Test,
        };
        Some(Book { name, part })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, number};

    #[test]
    fn books__committed_table__is_what_the_seed_gives() {
        let all: Vec<Book> = books().collect();
        let id = |book: &Book| book.name.split('_').next().unwrap().parse::<u64>().unwrap();
        assert!(all.windows(2).all(|pair| id(&pair[0]) < id(&pair[1])));
        let mut ordered = all.clone();
        ordered.sort_by_key(|book| number(1, Purpose::Split, 0, id(book)));
        let parts: Vec<Part> = ordered.iter().map(|book| book.part).collect();
        assert_eq!(parts, [[Part::Train; 60].as_slice(), &[Part::Dev; 20], &[Part::Test; 20]].concat());
    }
}

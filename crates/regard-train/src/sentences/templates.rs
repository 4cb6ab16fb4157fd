//! Sentence frames. In a frame `{a}`, `{b}`, `{c}` are nouns, `{it}` is a pronoun for whichever noun the sentence is
//! about and `{it:a}` one for `{a}` (`{its:a}`, `{itself:a}` and `{him:a}` in other forms), `{x}` says something of the
//! former, `{x:a}` of `{a}`, and `{v}` is a verb whose roles decide.

use super::words::Class::{self, Animal, Container, Food, Man, Place, Soft, Thing, Vehicle, Woman};

/// What a frame is for: frames of one part never occur in another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// To train on.
    Train,
    /// To choose a head.
    Dev,
    /// To report.
    Test,
}

/// A sentence frame.
#[derive(Debug)]
pub struct Template {
    /// The text.
    pub text: &'static str,
    /// Classes of `{a}`, `{b}`, `{c}`: one of them is drawn for each.
    pub classes: &'static [&'static [Class]],
    /// What it is for.
    pub part: Part,
}

const ANIMATE: &[Class] = &[Animal, Man, Woman];
const BEAST: &[Class] = &[Animal];
const SOFT: &[Class] = &[Soft];
const HOLDS: &[Class] = &[Container];
const RIDE: &[Class] = &[Vehicle];
const FOOD: &[Class] = &[Food];
const PLACE: &[Class] = &[Place];
const THING: &[Class] = &[Thing];
const OBJECT: &[Class] = &[Soft, Container, Vehicle, Food, Thing];

/// Frames in which an adjective of one class tells which noun is meant.
pub const BY_ADJECTIVE: &[Template] = &[
    train("the {a} slept on the {b} because {it} was {x} .", &[ANIMATE, SOFT]),
    train("the {a} lay down on the {b} because {it} was so {x} .", &[ANIMATE, SOFT]),
    train("the {a} rested on the {b} since {it} was {x} .", &[ANIMATE, SOFT]),
    train("because {it} was {x} , the {a} curled up on the {b} .", &[ANIMATE, SOFT]),
    train("the {a} went back to the {b} because {it} was very {x} .", &[ANIMATE, SOFT]),
    train("the {a} stood by the {b} . {it} was {x} .", &[ANIMATE, SOFT]),
    train("the {a} pulled the {b} away , but {it} was still {x} .", &[ANIMATE, SOFT]),
    train("the {a} looked into the {b} because {it} was {x} .", &[ANIMATE, HOLDS]),
    train("the {a} pushed the {b} over because {it} was {x} .", &[ANIMATE, HOLDS]),
    train("the {a} hid behind the {b} and {it} was {x} .", &[ANIMATE, HOLDS]),
    train("the {a} saw the {b} . soon {it} was {x} .", &[ANIMATE, HOLDS]),
    train("the {a} left the {b} there since {it} was {x} .", &[ANIMATE, HOLDS]),
    train("the {a} waited near the {b} because {it} was {x} .", &[ANIMATE, RIDE]),
    train("the {a} walked around the {b} . {it} was {x} .", &[ANIMATE, RIDE]),
    train("when {it} was {x} , the {a} stayed away from the {b} .", &[ANIMATE, RIDE]),
    train("the {a} ate the {b} because {it} was {x} .", &[ANIMATE, FOOD]),
    train("the {a} wanted the {b} because {it} was so {x} .", &[ANIMATE, FOOD]),
    train("the {a} smelled the {b} . {it} was {x} .", &[ANIMATE, FOOD]),
    train("the {a} refused the {b} since {it} was {x} .", &[ANIMATE, FOOD]),
    train("the {a} found the {b} and {it} was very {x} .", &[ANIMATE, FOOD]),
    train("the {a} ran into the {b} because {it} was {x} .", &[ANIMATE, PLACE]),
    train("the {a} stayed in the {b} because {it} was very {x} .", &[ANIMATE, PLACE]),
    train("the {a} left the {b} . {it} was {x} .", &[ANIMATE, PLACE]),
    train("the {a} liked the {b} , but {it} was {x} .", &[ANIMATE, PLACE]),
    train("the {a} dropped the {b} because {it} was {x} .", &[ANIMATE, THING]),
    train("the {a} touched the {b} and {it} was {x} .", &[ANIMATE, THING]),
    train("the {a} took the {b} home since {it} was {x} .", &[ANIMATE, THING]),
    train("the {b} fell on the {a} because {it} was {x} .", &[ANIMATE, THING]),
    train("the {b} was close to the {a} . {it} was {x} .", &[ANIMATE, OBJECT]),
    train("if {it} is {x} , the {a} will not use the {b} .", &[ANIMATE, OBJECT]),
    dev("the {a} slept near the {b} because {it} was too {x} .", &[ANIMATE, SOFT]),
    dev("the {a} carried the {b} because {it} was {x} .", &[ANIMATE, HOLDS]),
    dev("the {a} looked at the {b} , and {it} was {x} .", &[ANIMATE, FOOD]),
    dev("the {a} left the {b} behind because {it} was {x} .", &[ANIMATE, THING]),
    dev("the {a} walked to the {b} since {it} was {x} .", &[ANIMATE, PLACE]),
    test("the {a} sat on the {b} because {it} was {x} .", &[ANIMATE, SOFT]),
    test("the {a} jumped over the {b} because {it} was {x} .", &[ANIMATE, HOLDS]),
    test("the {a} tasted the {b} , but {it} was {x} .", &[ANIMATE, FOOD]),
    test("the {a} kept the {b} because {it} was very {x} .", &[ANIMATE, THING]),
    test("the {a} came to the {b} . {it} was {x} .", &[ANIMATE, PLACE]),
    test("since {it} was {x} , the {a} waited by the {b} .", &[ANIMATE, RIDE]),
];

/// Frames in which both nouns are of one class and the verb's roles tell.
pub const BY_ROLE: &[Template] = &[
    train("the {a} {v} the {b} because {it} was {x} .", &[BEAST, BEAST]),
    train("the {a} {v} the {b} since {it} was so {x} .", &[BEAST, BEAST]),
    train("the {a} {v} the {b} . {it} was {x} .", &[BEAST, BEAST]),
    train("because {it} was {x} , the {a} {v} the {b} .", &[BEAST, BEAST]),
    train("one day the {a} {v} the {b} because {it} was very {x} .", &[BEAST, BEAST]),
    train("in the {c} the {a} {v} the {b} because {it} was {x} .", &[BEAST, BEAST, PLACE]),
    train("behind the {c} the {a} {v} the {b} because {it} was very {x} .", &[BEAST, BEAST, PLACE]),
    train("yesterday the {a} {v} the {b} since {it} was {x} .", &[BEAST, BEAST]),
    train("at night the {a} {v} the {b} , for {it} was {x} .", &[BEAST, BEAST]),
    train("in the morning the {a} {v} the {b} . {it} was very {x} .", &[BEAST, BEAST]),
    train("the {a} suddenly {v} the {b} because {it} was {x} .", &[BEAST, BEAST]),
    train("the {a} never {v} the {b} since {it} was so {x} .", &[BEAST, BEAST]),
    train("the {a} {v} the {b} again because {it} was {x} .", &[BEAST, BEAST]),
    train("the {a} {v} the {b} near the {c} because {it} was {x} .", &[BEAST, BEAST, PLACE]),
    train("they say the {a} {v} the {b} because {it} was {x} .", &[BEAST, BEAST]),
    train("the {a} {v} the {b} because {it} was {x} .", &[&[Man], &[Man]]),
    train("the {a} {v} the {b} because {it} was so {x} .", &[&[Woman], &[Woman]]),
    dev("the {a} quickly {v} the {b} because {it} was {x} .", &[BEAST, BEAST]),
    dev("near the {c} the {a} {v} the {b} since {it} was {x} .", &[BEAST, BEAST, PLACE]),
    test("the {a} often {v} the {b} because {it} was so {x} .", &[BEAST, BEAST]),
    test("then the {a} {v} the {b} , since {it} was {x} .", &[BEAST, BEAST]),
];

/// Frames with several pronouns, each for a noun of its own, and with possessives and reflexives.
pub const SEVERAL: &[Template] = &[
    train("the {a} slept on the {b} . {it:a} was {x:a} and {it:b} was {x:b} .", &[ANIMATE, SOFT]),
    train("the {a} slept on the {b} . {it:b} was {x:b} and {it:a} was {x:a} .", &[ANIMATE, SOFT]),
    train("the {a} pulled the {b} because {it:a} was {x:a} , but {it:b} was {x:b} .", &[ANIMATE, OBJECT]),
    train("the {a} pushed the {b} because {it:b} was {x:b} , but {it:a} was {x:a} .", &[ANIMATE, OBJECT]),
    train("when {it:a} was {x:a} , the {a} used the {b} because {it:b} was {x:b} .", &[ANIMATE, OBJECT]),
    train("the {a} hid {its:a} {c} under the {b} because {it:c} was {x:c} .", &[ANIMATE, SOFT, THING]),
    train("the {a} hid {its:a} {c} under the {b} because {it:a} was {x:a} .", &[ANIMATE, SOFT, THING]),
    train("the {a} washed {itself:a} near the {b} because {it:b} was {x:b} .", &[ANIMATE, RIDE]),
    train("the {a} hurt {itself:a} on the {b} because {it:b} was {x:b} .", &[ANIMATE, THING]),
    train("the {a} took the {b} to {its:a} {c} because {it:b} was {x:b} .", &[ANIMATE, FOOD, PLACE]),
    train("the {b} stood by {itself:b} , and the {a} saw {it:b} . {it:a} was {x:a} .", &[ANIMATE, OBJECT]),
    train("the {a} gave the {b} a {c} because {it:a} was {x:a} .", &[&[Man], &[Woman], FOOD]),
    train("the {a} gave the {b} a {c} because {it:b} was {x:b} .", &[&[Man], &[Woman], FOOD]),
    train("the {b} sang to the {a} while {it:a} was {x:a} .", &[&[Man], &[Woman]]),
    train("the {b} sang to the {a} while {it:b} was {x:b} .", &[&[Man], &[Woman]]),
    train("the {a} and the {b} met . {it:a} was {x:a} , and {it:b} was {x:b} .", &[&[Man], &[Woman]]),
    train("the {b} and the {a} met . {it:a} was {x:a} , and {it:b} was {x:b} .", &[&[Woman], &[Man]]),
    train("the {a} saw the {b} , and {it:a} called {him:b} .", &[&[Man], &[Woman, Animal]]),
    train("the {a} met the {b} , but {it:b} did not know {him:a} .", &[&[Woman], &[Man]]),
];

/// Sentences that may stand before: they name other nouns, or hold an `it` that stands for nothing.
pub const LEADS: &[Template] = &[
    train("there was a {a} in the {b} .", &[OBJECT, PLACE]),
    train("one day a {a} came to the {b} .", &[ANIMATE, PLACE]),
    train("it was a long day .", &[]),
    train("it was late .", &[]),
    train("the {a} was {x:a} .", &[OBJECT]),
    train("the {a} and the {b} were there .", &[ANIMATE, OBJECT]),
    train("it rained on the {a} .", &[PLACE]),
];

/// Sentences that may stand after.
pub const TAILS: &[Template] = &[
    train("then the {a} went home .", &[ANIMATE]),
    train("nobody saw the {a} .", &[OBJECT]),
    train("that was a good day for the {a} .", &[ANIMATE]),
    train("it was time to sleep .", &[]),
    train("the {a} often sat there .", &[ANIMATE]),
    train("the {a} quickly jumped up .", &[ANIMATE]),
    train("the {a} kept still .", &[ANIMATE]),
    train("nobody looked at the {a} .", &[OBJECT]),
    train("nobody tasted the {a} .", &[FOOD]),
    train("it was too late .", &[]),
];

const fn train(text: &'static str, classes: &'static [&'static [Class]]) -> Template {
    Template { text, classes, part: Part::Train }
}

const fn dev(text: &'static str, classes: &'static [&'static [Class]]) -> Template {
    Template { text, classes, part: Part::Dev }
}

const fn test(text: &'static str, classes: &'static [&'static [Class]]) -> Template {
    Template { text, classes, part: Part::Test }
}

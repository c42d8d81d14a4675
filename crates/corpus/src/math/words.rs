//! Word problems: a short story, a few steps, one number.

use super::Worked;
use super::draw::Draw;
use super::notation::Fraction;

const NAMES: [&str; 16] = [
    "Anna", "Ben", "Carla", "David", "Ella", "Farid", "Grace", "Hugo", "Ines", "Jonas", "Kofi", "Lena",
    "Mei", "Noor", "Olga", "Pavel",
];

pub(super) fn shopping(draw: &mut Draw) -> Worked {
    let name = draw.pick(&NAMES);
    let (item, other) = draw.pick(&[
        ("pencils", "notebooks"),
        ("apples", "melons"),
        ("stamps", "envelopes"),
        ("screws", "hinges"),
        ("rolls", "loaves"),
        ("tulips", "roses"),
    ]);
    let (n, price, m, cost) = (draw.int(2..=12), draw.int(1..=9), draw.int(2..=9), draw.int(2..=20));
    let (first, second) = (n * price, m * cost);
    let total = first + second;
    let paid = (total / 50 + 1) * 50;
    let question = format!(
        "{name} buys {n} {item} at {price} dollars each and {m} {other} at {cost} dollars each, and pays with \
         {paid} dollars. How much change does {name} get?"
    );
    let steps = vec![
        format!("The {item} cost {n} * {price} = {first} dollars."),
        format!("The {other} cost {m} * {cost} = {second} dollars."),
        format!("Together that is {first} + {second} = {total} dollars."),
        format!("The change is {paid} - {total} = {} dollars.", paid - total),
    ];
    Worked::new(question, steps, format!("{} dollars", paid - total))
}

pub(super) fn journey(draw: &mut Draw) -> Worked {
    let who = draw.pick(&["A train", "A bus", "A car", "A cyclist", "A ship", "A truck"]);
    let (speed, hours, faster, more) =
        (draw.int(3..=24) * 5, draw.int(2..=9), draw.int(1..=6) * 5, draw.int(2..=6));
    let (first, second) = (speed * hours, (speed + faster) * more);
    let question = format!(
        "{who} travels for {hours} hours at {speed} km per hour and then for {more} hours at a speed that is \
         {faster} km per hour higher. How far does it get in all?"
    );
    let steps = vec![
        format!("The first part is {speed} * {hours} = {first} km."),
        format!("The higher speed is {speed} + {faster} = {} km per hour.", speed + faster),
        format!("The second part is {} * {more} = {second} km.", speed + faster),
        format!("In all: {first} + {second} = {} km.", first + second),
    ];
    Worked::new(question, steps, format!("{} km", first + second))
}

pub(super) fn sharing(draw: &mut Draw) -> Worked {
    let name = draw.pick(&NAMES);
    let (thing, group) = draw.pick(&[
        ("marbles", "friends"),
        ("cards", "players"),
        ("sweets", "children"),
        ("books", "shelves"),
        ("seeds", "pots"),
        ("photos", "pages"),
    ]);
    let (count, parts) = (draw.int(30..=900), draw.int(3..=17));
    let (each, left) = (count / parts, count % parts);
    let question = format!(
        "{name} divides {count} {thing} equally among {parts} {group} and keeps what is left over. How many \
         {thing} are there for each, and how many are left over?"
    );
    let steps = vec![
        format!("{count} divided by {parts} goes {each} times: {parts} * {each} = {}.", parts * each),
        format!("What is left over is {count} - {} = {left}.", parts * each),
    ];
    Worked::new(question, steps, format!("{each} each, {left} left over"))
}

pub(super) fn rectangle(draw: &mut Draw) -> Worked {
    let what = draw.pick(&["garden", "field", "carpet", "playground", "wall", "sheet of metal"]);
    let (width, longer) = (draw.int(3..=60), draw.int(2..=40));
    let length = width + longer;
    let area = draw.int(0..=1) == 0;
    let asked = if area { "area" } else { "perimeter" };
    let question = format!(
        "A rectangular {what} is {width} m wide, and its length is {longer} m more than its width. What is its \
         {asked}?"
    );
    let mut steps = vec![format!("The length is {width} + {longer} = {length} m.")];
    let answer = if area {
        steps.push(format!("The area is length times width: {length} * {width} = {}.", length * width));
        format!("{} square meters", length * width)
    } else {
        steps.push(format!("Length and width together are {length} + {width} = {} m.", length + width));
        steps.push(format!(
            "The perimeter is twice that: 2 * {} = {}.",
            length + width,
            2 * (length + width)
        ));
        format!("{} m", 2 * (length + width))
    };
    Worked::new(question, steps, answer)
}

pub(super) fn ages(draw: &mut Draw) -> Worked {
    let (older, younger) = loop {
        let (a, b) = (draw.pick(&NAMES), draw.pick(&NAMES));
        if a != b {
            break (a, b);
        }
    };
    let (age, gap) = (draw.int(3..=40), draw.int(2..=30));
    let sum = 2 * age + gap;
    let question = format!(
        "{older} is {gap} years older than {younger}. Together they are {sum} years old. How old is {younger}?"
    );
    let steps = vec![
        format!("Let x be the age of {younger}. Then {older} is x + {gap}."),
        format!("Together x + x + {gap} = {sum}, so 2x = {sum} - {gap} = {}.", sum - gap),
        format!("So x = {} / 2 = {age}.", sum - gap),
    ];
    Worked::new(question, steps, format!("{age} years"))
}

pub(super) fn discount(draw: &mut Draw) -> Worked {
    let item = draw.pick(&["coat", "lamp", "bicycle", "table", "phone", "camera", "tent"]);
    let (price, percent) = (draw.int(2..=60) * 20, draw.int(1..=12) * 5);
    let up = draw.int(0..=2) == 0;
    let change = price * percent / 100;
    let after = if up { price + change } else { price - change };
    let (verb, sign) = if up { ("raised", "+") } else { ("reduced", "-") };
    let question = format!(
        "The price of a {item} is {price} dollars. It is {verb} by {percent}%. What is the new price?"
    );
    let steps = vec![
        format!("{percent}% of the price is {price} * {percent} / 100 = {change} dollars."),
        format!("The new price is {price} {sign} {change} = {after} dollars."),
    ];
    Worked::new(question, steps, format!("{after} dollars"))
}

pub(super) fn marbles(draw: &mut Draw) -> Worked {
    let (red, blue, green) = (draw.int(1..=20), draw.int(1..=20), draw.int(1..=20));
    let total = red + blue + green;
    let (color, count) = draw.pick(&[("red", red), ("blue", blue), ("green", green)]);
    let value = Fraction::new(count, total);
    let question = format!(
        "A bag holds {red} red, {blue} blue and {green} green marbles. One is drawn at random. What is the \
         probability that it is {color}?"
    );
    let plain = format!("{count}/{total}");
    let lowest = if plain == value.to_string() { String::new() } else { format!(" = {value}") };
    let steps = vec![
        format!("There are {red} + {blue} + {green} = {total} marbles, each equally likely."),
        format!("{count} of them are {color}, so the probability is {plain}{lowest}."),
    ];
    Worked::new(question, steps, value)
}

pub(super) fn savings(draw: &mut Draw) -> Worked {
    let name = draw.pick(&NAMES);
    let goal = draw.pick(&["a guitar", "a telescope", "a trip", "a computer", "a boat", "a piano"]);
    let (weekly, weeks, start) = (draw.int(3..=45), draw.int(3..=40), draw.int(10..=300));
    let price = start + weekly * weeks;
    let question = format!(
        "{name} has {start} dollars and saves {weekly} dollars every week for {goal} that costs {price} dollars. \
         After how many weeks is there enough money?"
    );
    let steps = vec![
        format!("Still missing are {price} - {start} = {} dollars.", price - start),
        format!("At {weekly} dollars a week that takes {} / {weekly} = {weeks} weeks.", price - start),
    ];
    Worked::new(question, steps, format!("{weeks} weeks"))
}

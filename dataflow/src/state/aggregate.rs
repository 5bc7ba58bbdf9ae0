//! Aggregates: how many records become one result. The built-in ones, and the trait to write one's own.

use std::cmp::Ordering;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::decimal::Decimal;

/// How records of type `In` become one result.
///
/// An accumulator begins with its first record, so that there is none without: a mean never divides by zero,
/// a minimum always exists. `add` and `merge` must not depend on the order of records if results are to be
/// the same whatever order they arrive in.
pub trait Aggregate<In> {
    /// What is kept while records come in: part of the job's state.
    type Acc: Serialize + DeserializeOwned + Send + 'static;
    /// The result.
    type Out: Send + 'static;

    /// The accumulator of one record.
    fn create(&self, first: &In) -> Self::Acc;
    /// Takes one more record.
    fn add(&self, acc: &mut Self::Acc, value: &In);
    /// Takes all that another accumulator holds.
    fn merge(&self, acc: &mut Self::Acc, other: Self::Acc);
    /// The result so far.
    fn result(&self, acc: &Self::Acc) -> Self::Out;
}

/// The number of records.
#[derive(Clone, Copy, Debug, Default)]
pub struct Count;

impl<In> Aggregate<In> for Count {
    type Acc = u64;
    type Out = u64;

    fn create(&self, _first: &In) -> u64 {
        1
    }

    fn add(&self, acc: &mut u64, _value: &In) {
        *acc += 1;
    }

    fn merge(&self, acc: &mut u64, other: u64) {
        *acc += other;
    }

    fn result(&self, acc: &u64) -> u64 {
        *acc
    }
}

/// The sum of a field: exact for integers (in 128 bits) and for [`Decimal`]; for floats it depends on the order.
#[derive(Clone, Copy, Debug)]
pub struct Sum<F>(F);

impl<F> Sum<F> {
    /// Sums what `field` returns: `Sum::of(|click: &Click| click.amount)`.
    pub const fn of<In, N>(field: F) -> Self
    where
        F: Fn(&In) -> N,
    {
        Self(field)
    }
}

impl<In, N: Summable, F: Fn(&In) -> N> Aggregate<In> for Sum<F> {
    type Acc = N::Sum;
    type Out = N::Sum;

    fn create(&self, first: &In) -> N::Sum {
        (self.0)(first).widen()
    }

    fn add(&self, acc: &mut N::Sum, value: &In) {
        N::plus(acc, (self.0)(value).widen());
    }

    fn merge(&self, acc: &mut N::Sum, other: N::Sum) {
        N::plus(acc, other);
    }

    fn result(&self, acc: &N::Sum) -> N::Sum {
        acc.clone()
    }
}

/// The arithmetic mean of a field, as `f64`; the sum behind it is as exact as [`Sum`]'s.
#[derive(Clone, Copy, Debug)]
pub struct Avg<F>(F);

impl<F> Avg<F> {
    /// Averages what `field` returns.
    pub const fn of<In, N>(field: F) -> Self
    where
        F: Fn(&In) -> N,
    {
        Self(field)
    }
}

impl<In, N: Summable, F: Fn(&In) -> N> Aggregate<In> for Avg<F> {
    type Acc = (N::Sum, u64);
    type Out = f64;

    fn create(&self, first: &In) -> Self::Acc {
        ((self.0)(first).widen(), 1)
    }

    fn add(&self, (sum, count): &mut Self::Acc, value: &In) {
        N::plus(sum, (self.0)(value).widen());
        *count += 1;
    }

    fn merge(&self, (sum, count): &mut Self::Acc, (other_sum, other_count): Self::Acc) {
        N::plus(sum, other_sum);
        *count += other_count;
    }

    fn result(&self, (sum, count): &Self::Acc) -> f64 {
        N::approximate(sum) / *count as f64
    }
}

/// The least value of a field.
#[derive(Clone, Copy, Debug)]
pub struct Min<F>(F);

/// The greatest value of a field.
#[derive(Clone, Copy, Debug)]
pub struct Max<F>(F);

macro_rules! extreme {
    ($name:ident, $replaces:path) => {
        impl<F> $name<F> {
            /// Compares what `field` returns.
            pub const fn of<In, N>(field: F) -> Self
            where
                F: Fn(&In) -> N,
            {
                Self(field)
            }
        }

        impl<In, N, F> Aggregate<In> for $name<F>
        where
            N: Ordered + Clone + Serialize + DeserializeOwned + Send + 'static,
            F: Fn(&In) -> N,
        {
            type Acc = N;
            type Out = N;

            fn create(&self, first: &In) -> N {
                (self.0)(first)
            }

            fn add(&self, acc: &mut N, value: &In) {
                self::Aggregate::<In>::merge(self, acc, (self.0)(value));
            }

            fn merge(&self, acc: &mut N, other: N) {
                if other.order(acc) == $replaces {
                    *acc = other;
                }
            }

            fn result(&self, acc: &N) -> N {
                acc.clone()
            }
        }
    };
}

extreme!(Min, Ordering::Less);
extreme!(Max, Ordering::Greater);

/// Folds records into one of their own type: `Reduce::by(|a, b| …)`.
#[derive(Clone, Copy, Debug)]
pub struct Reduce<F>(F);

impl<F> Reduce<F> {
    /// Folds by `combine(so far, next)`.
    pub const fn by<In>(combine: F) -> Self
    where
        F: Fn(&In, &In) -> In,
    {
        Self(combine)
    }
}

impl<In, F> Aggregate<In> for Reduce<F>
where
    In: Clone + Serialize + DeserializeOwned + Send + 'static,
    F: Fn(&In, &In) -> In,
{
    type Acc = In;
    type Out = In;

    fn create(&self, first: &In) -> In {
        first.clone()
    }

    fn add(&self, acc: &mut In, value: &In) {
        *acc = (self.0)(acc, value);
    }

    fn merge(&self, acc: &mut In, other: In) {
        *acc = (self.0)(acc, &other);
    }

    fn result(&self, acc: &In) -> In {
        acc.clone()
    }
}

/// Two aggregates over the same records, as a pair of results.
#[derive(Clone, Copy, Debug)]
pub struct And<A, B>(A, B);

impl<A, B> And<A, B> {
    /// Both at once; the built-in aggregates also have it as a method, `Count.and(…)`.
    pub const fn new(first: A, second: B) -> Self {
        Self(first, second)
    }
}

impl<In, A: Aggregate<In>, B: Aggregate<In>> Aggregate<In> for And<A, B> {
    type Acc = (A::Acc, B::Acc);
    type Out = (A::Out, B::Out);

    fn create(&self, first: &In) -> Self::Acc {
        (self.0.create(first), self.1.create(first))
    }

    fn add(&self, acc: &mut Self::Acc, value: &In) {
        self.0.add(&mut acc.0, value);
        self.1.add(&mut acc.1, value);
    }

    fn merge(&self, acc: &mut Self::Acc, other: Self::Acc) {
        self.0.merge(&mut acc.0, other.0);
        self.1.merge(&mut acc.1, other.1);
    }

    fn result(&self, acc: &Self::Acc) -> Self::Out {
        (self.0.result(&acc.0), self.1.result(&acc.1))
    }
}

macro_rules! combinable {
    ($(($($parameter:ident)*) $type:ty),*) => {$(
        impl<$($parameter),*> $type {
            /// This aggregate and `other` over the same records.
            pub const fn and<Other>(self, other: Other) -> And<Self, Other> {
                And::new(self, other)
            }
        }
    )*};
}

combinable!(() Count, (F) Sum<F>, (F) Avg<F>, (F) Min<F>, (F) Max<F>, (F) Reduce<F>, (A B) And<A, B>);

/// A number that can be summed without overflow.
pub trait Summable {
    /// Wide enough for any sum: `i128` for integers.
    type Sum: Clone + Serialize + DeserializeOwned + Send + 'static;

    /// This one as a sum.
    fn widen(self) -> Self::Sum;
    /// Adds to a sum.
    fn plus(sum: &mut Self::Sum, other: Self::Sum);
    /// The sum as the nearest float.
    fn approximate(sum: &Self::Sum) -> f64;
}

macro_rules! summable {
    ($($number:ty as $sum:ty),*) => {$(
        impl Summable for $number {
            type Sum = $sum;

            fn widen(self) -> $sum {
                self.into()
            }

            fn plus(sum: &mut $sum, other: $sum) {
                *sum += other;
            }

            fn approximate(sum: &$sum) -> f64 {
                *sum as f64
            }
        }
    )*};
}

summable!(
    i8 as i128,
    i16 as i128,
    i32 as i128,
    i64 as i128,
    u8 as i128,
    u16 as i128,
    u32 as i128,
    u64 as i128,
    f32 as f64,
    f64 as f64
);

impl Summable for Decimal {
    type Sum = Self;

    fn widen(self) -> Self {
        self
    }

    fn plus(sum: &mut Self, other: Self) {
        *sum += other;
    }

    fn approximate(sum: &Self) -> f64 {
        sum.to_f64()
    }
}

/// A total order: `Ord`, and IEEE 754's total order for floats (NaN above all else).
pub trait Ordered {
    /// Compares two values.
    fn order(&self, other: &Self) -> Ordering;
}

macro_rules! ordered {
    ($($type:ty: $compare:path),* $(,)?) => {$(
        impl Ordered for $type {
            fn order(&self, other: &Self) -> Ordering {
                $compare(self, other)
            }
        }
    )*};
}

ordered!(
    i8: Ord::cmp, i16: Ord::cmp, i32: Ord::cmp, i64: Ord::cmp, i128: Ord::cmp,
    u8: Ord::cmp, u16: Ord::cmp, u32: Ord::cmp, u64: Ord::cmp, u128: Ord::cmp,
    bool: Ord::cmp, char: Ord::cmp, String: Ord::cmp, Decimal: Ord::cmp,
    f32: Self::total_cmp, f64: Self::total_cmp,
);

#[cfg(test)]
mod tests {
    use super::*;

    struct Click {
        amount: Decimal,
        page: i32,
    }

    fn clicks() -> Vec<Click> {
        [(1010, 3), (-25, -7), (990, 4)]
            .map(|(hundredths, page)| Click { amount: Decimal::from_hundredths(hundredths), page })
            .into()
    }

    /// The result over all of them, and over two halves merged.
    fn both<A: Aggregate<Click>>(aggregate: &A) -> [A::Out; 2] {
        let clicks = clicks();
        let fold = |clicks: &[Click]| {
            let mut acc = aggregate.create(&clicks[0]);
            clicks[1..].iter().for_each(|click| aggregate.add(&mut acc, click));
            acc
        };
        let mut merged = fold(&clicks[..1]);
        aggregate.merge(&mut merged, fold(&clicks[1..]));
        [aggregate.result(&fold(&clicks)), aggregate.result(&merged)]
    }

    #[test]
    fn results_are_the_same_in_one_go_and_merged() {
        let amount = |click: &Click| click.amount;
        let page = |click: &Click| click.page;
        assert_eq!(both(&Count), [3, 3]);
        assert_eq!(both(&Sum::of(amount)).map(|sum| sum.to_string()), ["19.75", "19.75"]);
        assert_eq!(both(&Sum::of(page)), [0i128, 0]);
        assert_eq!(both(&Avg::of(page)), [0.0, 0.0]);
        assert_eq!(both(&Avg::of(|click: &Click| f64::from(click.page) + 1.0)), [1.0, 1.0]);
        assert_eq!(both(&Min::of(page)), [-7, -7]);
        assert_eq!(both(&Max::of(amount)).map(Decimal::hundredths), [1010, 1010]);
        let all = Count.and(Sum::of(amount)).and(Max::of(page));
        assert_eq!(both(&all), [((3, Decimal::from_hundredths(1975)), 4); 2]);
    }

    #[test]
    fn floats_have_a_total_order() {
        let least = Min::of(|value: &f64| *value);
        for values in [[f64::NAN, 1.0, -2.0], [1.0, f64::NAN, -2.0], [-2.0, 1.0, f64::NAN]] {
            let mut acc = least.create(&values[0]);
            values[1..].iter().for_each(|value| least.add(&mut acc, value));
            assert_eq!(acc, -2.0);
        }
    }
}

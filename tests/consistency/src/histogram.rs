//! [`Histogram`]: how often each size came, within a sixteenth.

use std::fmt::{self, Write};

/// Parts of each power of two.
const PARTS: u64 = 16;
const BUCKETS: usize = 61 * PARTS as usize;

/// A distribution of numbers. Small ones are exact, others are known within a sixteenth; the largest is exact.
#[derive(Clone, Debug)]
pub(crate) struct Histogram {
    counts: Box<[u64]>,
    count: u64,
    max: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; BUCKETS].into(), count: 0, max: 0 }
    }
}

impl Histogram {
    pub(crate) fn add(&mut self, value: u64) {
        self.add_many(bucket(value), 1);
        self.max = self.max.max(value);
    }

    pub(crate) fn merge(&mut self, other: &Self) {
        if other.count == 0 {
            return;
        }
        for (index, count) in other.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            self.add_many(index, *count);
        }
        self.max = self.max.max(other.max);
    }

    pub(crate) fn clear(&mut self) {
        if self.count > 0 {
            self.counts.fill(0);
            (self.count, self.max) = (0, 0);
        }
    }

    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    pub(crate) fn max(&self) -> u64 {
        self.max
    }

    /// The number that so many percent are not above.
    pub(crate) fn percentile(&self, percent: u64) -> u64 {
        let rank = (self.count * percent).div_ceil(100).max(1);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return largest(index).min(self.max);
            }
        }
        self.max
    }

    fn add_many(&mut self, index: usize, count: u64) {
        if let Some(slot) = self.counts.get_mut(index) {
            *slot += count;
            self.count += count;
        }
    }

    /// As one word: `max;bucket:count,bucket:count`.
    pub(crate) fn write(&self, line: &mut String) -> fmt::Result {
        write!(line, "{};", self.max)?;
        for (index, count) in self.counts.iter().enumerate().filter(|(_, count)| **count > 0) {
            write!(line, "{index}:{count},")?;
        }
        Ok(())
    }

    /// What [`write`](Self::write) wrote.
    pub(crate) fn read(word: &str) -> Option<Self> {
        let (max, buckets) = word.split_once(';')?;
        let mut histogram = Self { max: max.parse().ok()?, ..Self::default() };
        for bucket in buckets.split_terminator(',') {
            let (index, count) = bucket.split_once(':')?;
            histogram.add_many(index.parse().ok()?, count.parse().ok()?);
        }
        Some(histogram)
    }
}

fn bucket(value: u64) -> usize {
    if value < PARTS {
        return value as usize;
    }
    let power = u64::from(value.ilog2());
    let part = (value >> (power - 4)) & (PARTS - 1);
    ((power - 3) * PARTS + part) as usize
}

/// The largest number of a bucket.
fn largest(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    if bucket < PARTS {
        return bucket;
    }
    let (power, part) = (bucket / PARTS + 3, bucket % PARTS);
    let next = u128::from(PARTS + part + 1) << (power - 4);
    u64::try_from(next - 1).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_is_in_its_bucket() {
        let mut last = 0;
        for value in (0..200_000).chain([u64::MAX / 3, u64::MAX]) {
            let index = bucket(value);
            assert!(index < BUCKETS && largest(index) >= value, "{value}");
            assert!(index >= last, "{value}");
            assert!(index == 0 || largest(index - 1) < value, "{value}");
            last = index;
        }
    }

    #[test]
    fn percentiles_are_right_within_a_sixteenth_and_survive_the_way() {
        let mut all = Histogram::default();
        (1..=1_000).for_each(|value| all.add(value));
        let mut line = String::new();
        all.write(&mut line).unwrap();
        let mut read = Histogram::read(&line).unwrap();
        read.merge(&Histogram::default());
        assert_eq!((read.count(), read.max()), (1_000, 1_000));
        let median = read.percentile(50);
        assert!((500..=532).contains(&median), "{median}");
        assert_eq!(read.percentile(100), 1_000);
        assert_eq!(Histogram::default().percentile(99), 0);
    }
}

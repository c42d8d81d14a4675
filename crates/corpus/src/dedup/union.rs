//! Disjoint sets whose name is their smallest member, whatever the order in which they were joined.

/// Four bytes per document.
pub(super) struct Union {
    parents: Vec<u32>,
}

impl Union {
    pub(super) fn new(n: usize) -> Self {
        Self { parents: (0..n as u32).collect() }
    }

    /// The smallest member of the set.
    pub(super) fn find(&mut self, mut of: u32) -> u32 {
        while self.parents[of as usize] != of {
            let above = self.parents[self.parents[of as usize] as usize];
            self.parents[of as usize] = above;
            of = above;
        }
        of
    }

    pub(super) fn join(&mut self, a: u32, b: u32) {
        let (a, b) = (self.find(a), self.find(b));
        self.parents[a.max(b) as usize] = a.min(b);
    }
}

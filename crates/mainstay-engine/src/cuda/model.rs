//! The decoder on the card: a step is a pass of single tokens and one for each prompt in it.

mod scratch;

use super::arguments::{Cache, Embed, Norm, Product, STORE_F32, Turn, Unscaled};
use super::attention::{self, Attention};
use super::card::{Buffer, Card, Grid, Host, Pointer, Recorded};
use super::feed::Feed;
use super::load::{Loader, Matrix};
use super::product::{self, FEW, Form};
use crate::attention::Slot;
use crate::cache::Page;
use crate::error::LoadError;
use crate::kernels::Element;
use crate::model::Batch;
use crate::rope::Rope;
use crate::shape::Shape;
use crate::weights::Weights;
use scratch::Scratch;
use std::cell::RefCell;
use std::collections::HashMap;

/// Tokens whose norm each block of a product takes by itself.
const NORMS: usize = 8;
/// Numbers of a slot on the card.
const SLOT: usize = 3;

/// A model in the memory of a card, with its cache.
pub struct CardModel {
    card: Card,
    embedding: Matrix,
    layers: Vec<Layer>,
    norm: Buffer,
    /// None: the embedding.
    output: Option<Matrix>,
    /// Cosine and sine of each position and pair.
    angles: Buffer,
    turn: (usize, bool),
    hidden: usize,
    vocabulary: usize,
    epsilon: f32,
    rows: Buffer,
    room: Room,
    row: usize,
    slots: Buffer,
    tables: Buffer,
    scratch: Scratch,
    grown: Grown,
    /// Passes of single tokens, by how many there are and how long tables are.
    recorded: HashMap<(usize, usize), Recorded>,
    wanted: Buffer,
    logits: Host,
    /// Numbers in all matrices together.
    pub parameters: usize,
    /// For checks: the plain kernels alone, whatever the sizes.
    #[cfg(test)]
    is_plain: bool,
}

/// How much the cache and a pass may hold.
#[derive(Clone, Copy)]
pub struct Room {
    pub pages: usize,
    pub page_tokens: usize,
    /// Tokens of a sequence, at most.
    pub positions: usize,
    /// Tokens of one pass over a prompt, at most.
    pub prompt: usize,
}

/// Memory that is taken when a longer context first needs it.
#[derive(Default)]
struct Grown {
    expanded: RefCell<Option<(usize, Buffer)>>,
    gathered: RefCell<Option<(usize, Buffer)>>,
}

struct Layer {
    attention_norm: Buffer,
    attention: Attention,
    feed_norm: Buffer,
    feed: Feed,
}

/// The vectors that a product takes.
#[derive(Clone, Copy)]
pub struct Input {
    pointer: Pointer,
    row: usize,
    is_f32: bool,
    /// Weights of a norm that they pass first, and its epsilon.
    norm: (Pointer, f32),
    /// Scales of that norm, where it was begun.
    scales: Pointer,
}

impl Input {
    /// Activations as they are.
    pub fn plain(pointer: Pointer, row: usize) -> Input {
        Input { pointer, row, is_f32: false, norm: (0, 0.0), scales: 0 }
    }
}

/// Tokens on their way through the layers.
pub struct Pass<'a> {
    pub card: &'a Card,
    pub form: Form,
    pub tokens: usize,
    pub slots: Pointer,
    pub cache: Cache,
    pub turn: Turn,
    /// Most parts that `decode` makes of a context.
    pub parts: usize,
    /// Table and positions of the one sequence of a prompt's pass.
    pub prompt: (usize, usize),
    pub scratch: &'a Scratch,
    grown: &'a Grown,
}

impl Pass<'_> {
    /// The fields of a product with this matrix that are always the same.
    pub fn whole(&self, matrix: &Matrix) -> Product {
        Product {
            w: matrix.pointer(),
            element: i32::from(matrix.element == Element::Bf16),
            n: matrix.rows as i32,
            k: matrix.columns as i32,
            tokens: self.tokens as i32,
            ..Product::default()
        }
    }

    /// A product of this pass's tokens.
    pub fn of(&self, matrix: &Matrix, x: &Input, (y, mode): (Pointer, i32)) -> Product {
        Product {
            x: x.pointer,
            x_row: x.row as i32,
            x_is_f32: i32::from(x.is_f32),
            norm: x.norm.0,
            epsilon: x.norm.1,
            scales: x.scales,
            y,
            y_row: matrix.rows as i32,
            mode,
            ..self.whole(matrix)
        }
    }

    /// Starts it.
    pub fn product(&self, matrix: &Matrix, x: &Input, y: (Pointer, i32)) {
        product::start(self.card, self.form, &self.of(matrix, x, y), 1);
    }

    /// What `x` holds (rows of f32, so far apart), normed: by the product itself where it can.
    pub fn normed(&self, x: Pointer, row: usize, norm: (&Buffer, usize, f32)) -> Input {
        let (weights, n, epsilon) = norm;
        let y = self.scratch.normed.pointer;
        if self.form == Form::Few && self.tokens <= NORMS {
            let norm = (weights.pointer, epsilon);
            return Input { is_f32: true, norm, ..Input::plain(x, row) };
        }
        if self.form == Form::Few {
            let scales = self.scratch.scales.pointer;
            let argument = Unscaled {
                x,
                w: weights.pointer,
                x_row: row as i32,
                n: n as i32,
                tokens: self.tokens as i32,
                epsilon,
                y,
                scales,
            };
            self.card.launch(
                "unscaled",
                Grid::new([self.tokens.div_ceil(4), 1, 1], 128),
                &argument,
            );
            return Input { scales, ..Input::plain(y, n) };
        }
        let argument = Norm {
            x,
            rows: 0,
            w: weights.pointer,
            x_row: row as i32,
            n: n as i32,
            epsilon,
            y,
            y_row: n as i32,
        };
        self.card.launch("normed", Grid::new([self.tokens, 1, 1], 256), &argument);
        Input::plain(y, n)
    }

    pub fn expanded_room(&self, numbers: usize) -> Pointer {
        grow(self.card, &self.grown.expanded, numbers)
    }

    pub fn gathered_room(&self, numbers: usize) -> Pointer {
        grow(self.card, &self.grown.gathered, numbers)
    }
}

/// Memory for so many activations; doubled, so that it rarely grows.
fn grow(card: &Card, room: &RefCell<Option<(usize, Buffer)>>, numbers: usize) -> Pointer {
    let mut room = room.borrow_mut();
    if room.as_ref().is_none_or(|(size, _)| *size < numbers) {
        // What runs may still use the old one.
        card.wait();
        *room = None;
        let size = numbers.next_power_of_two();
        let buffer = card.zeros(size * card.width());
        let buffer = buffer.unwrap_or_else(|error| panic!("no room for a long prompt: {error}"));
        *room = Some((size, buffer));
    }
    room.as_ref().map_or(0, |(_, buffer)| buffer.pointer)
}

impl CardModel {
    /// Brings a model onto the card; without weights it gets random ones.
    pub fn load(
        card: Card,
        weights: Option<&Weights>,
        shape: &Shape,
        room: Room,
    ) -> Result<CardModel, LoadError> {
        let loader = Loader::new(&card, weights);
        let (hidden, vocabulary) = (shape.hidden, shape.vocabulary);
        let table = [("model.embed_tokens.weight", vocabulary)];
        let head = [("lm_head.weight", vocabulary)];
        let is_tied = |weights: &Weights| shape.tied.unwrap_or(!weights.has(head[0].0));
        let output = match weights.is_some_and(is_tied) {
            true => None,
            false => Some(loader.stacked(&head, hidden)?),
        };
        let mut layers = Vec::new();
        for index in 0..shape.layers {
            layers.push(Layer::load(&loader, shape, index)?);
        }
        let rope = Rope::new(&shape.rope);
        let angles: Vec<f32> = rope.pairs(room.positions).collect();
        let row: usize = shape.attention.rows().into_iter().product();
        let cached = room.pages * room.page_tokens * shape.layers * row * card.width();
        let pages = room.positions.div_ceil(room.page_tokens).next_power_of_two();
        Ok(CardModel {
            embedding: loader.stacked(&table, hidden)?,
            layers,
            norm: loader.vector("model.norm.weight", hidden)?,
            output,
            angles: loader.numbers(&angles)?,
            turn: (shape.rope.size / 2, shape.rope.interleaved),
            hidden,
            vocabulary,
            epsilon: shape.norm_epsilon,
            rows: card.zeros(cached)?,
            room,
            row,
            slots: card.zeros(room.prompt.max(FEW) * SLOT * 4)?,
            tables: card.zeros(FEW * pages * 4)?,
            scratch: Scratch::new(&card, shape, &room)?,
            grown: Grown::default(),
            recorded: HashMap::new(),
            wanted: card.zeros(room.prompt.max(FEW) * 4)?,
            logits: card.host(FEW * vocabulary)?,
            parameters: weights.map_or(0, Weights::parameters),
            #[cfg(test)]
            is_plain: false,
            card,
        })
    }

    pub fn card(&self) -> &Card {
        &self.card
    }

    /// Runs a step and returns `vocabulary` logits for each wanted slot, one after another.
    pub fn forward(&mut self, batch: &Batch<'_>) -> Vec<f32> {
        let mut all = vec![0.0; batch.wanted.len() * self.vocabulary];
        let (single, prompts): (Vec<usize>, Vec<usize>) =
            (0..batch.slots.len()).partition(|slot| batch.slots[*slot].is_answer);
        for slots in single.chunks(FEW) {
            self.single(batch, slots, &mut all);
        }
        for slots in prompts.chunk_by(|a, b| batch.slots[*a].table == batch.slots[*b].table) {
            for slots in slots.chunks(self.room.prompt) {
                self.prompt(batch, slots, &mut all);
            }
        }
        all
    }

    fn single(&mut self, batch: &Batch<'_>, slots: &[usize], all: &mut [f32]) {
        let key = self.prepare(batch, slots);
        self.again(key);
        let count = slots.len() * self.vocabulary;
        let logits = self.card.fetch(&self.scratch.logits, &mut self.logits, count);
        for (row, slot) in logits.chunks_exact(self.vocabulary).zip(slots) {
            if let Some(at) = batch.wanted.iter().position(|wanted| wanted == slot) {
                all[at * self.vocabulary..][..self.vocabulary].copy_from_slice(row);
            }
        }
    }

    /// From here on the plain kernels alone, or not.
    #[cfg(test)]
    pub fn only_plain(&mut self, is_plain: bool) {
        self.recorded.clear();
        self.is_plain = is_plain;
    }

    /// The form of a pass whose sizes ask for this one.
    fn form(&self, form: Form) -> Form {
        #[cfg(test)]
        if self.is_plain {
            return Form::Plain;
        }
        if self.card.is_exact { Form::Plain } else { form }
    }

    /// Puts a batch of single tokens onto the card and records its pass; what to call
    /// [`CardModel::again`] with.
    pub fn prepare(&mut self, batch: &Batch<'_>, slots: &[usize]) -> (usize, usize) {
        let key = (slots.len(), self.put(batch, slots));
        if !self.recorded.contains_key(&key) {
            // Once for real: what a kernel needs first is not to be recorded.
            self.run_single(key);
            let graph = self.card.record(|| self.run_single(key));
            self.recorded.insert(key, graph);
        }
        key
    }

    /// Runs what was prepared.
    pub fn again(&self, key: (usize, usize)) {
        self.card.replay(&self.recorded[&key]);
    }

    /// The pass that was prepared.
    pub fn single_pass(&self, (tokens, table_row): (usize, usize)) -> Pass<'_> {
        self.pass(self.form(Form::Few), tokens, table_row)
    }

    /// The attention of a layer.
    pub fn attention_of(&self, layer: usize) -> Option<&Attention> {
        self.layers.get(layer).map(|layer| &layer.attention)
    }

    fn run_single(&self, key: (usize, usize)) {
        let pass = self.single_pass(key);
        self.layers(&pass);
        let x = pass.normed(
            self.scratch.x.pointer,
            self.hidden,
            (&self.norm, self.hidden, self.epsilon),
        );
        pass.product(self.output(), &x, (self.scratch.logits.pointer, STORE_F32));
    }

    fn prompt(&mut self, batch: &Batch<'_>, slots: &[usize], all: &mut [f32]) {
        let table_row = self.put(batch, slots);
        let form = self.form(Form::Many);
        let last = slots.last().map_or(0, |slot| batch.slots[*slot].position);
        let pass = Pass { prompt: (0, last + 1), ..self.pass(form, slots.len(), table_row) };
        self.layers(&pass);
        let is_wanted = |slot: &&usize| batch.wanted.contains(slot);
        let wanted: Vec<usize> = slots.iter().filter(is_wanted).copied().collect();
        for wanted in wanted.chunks(FEW) {
            let rows: Vec<i32> = wanted.iter().map(|slot| (slot - slots[0]) as i32).collect();
            self.card.write(&mut self.wanted, 0, &rows);
            self.logits_of(rows.len());
            let count = rows.len() * self.vocabulary;
            let logits = self.card.fetch(&self.scratch.logits, &mut self.logits, count);
            for (row, slot) in logits.chunks_exact(self.vocabulary).zip(wanted) {
                let at = batch.wanted.iter().position(|wanted| wanted == slot).unwrap_or(0);
                all[at * self.vocabulary..][..self.vocabulary].copy_from_slice(row);
            }
        }
    }

    /// The logits of the rows that are wanted of the last pass.
    fn logits_of(&self, tokens: usize) {
        let argument = Norm {
            x: self.scratch.x.pointer,
            rows: self.wanted.pointer,
            w: self.norm.pointer,
            x_row: self.hidden as i32,
            n: self.hidden as i32,
            epsilon: self.epsilon,
            y: self.scratch.last.pointer,
            y_row: self.hidden as i32,
        };
        self.card.launch("normed", Grid::new([tokens, 1, 1], 256), &argument);
        let pass = self.pass(self.form(Form::Few), tokens, 1);
        let x = Input::plain(self.scratch.last.pointer, self.hidden);
        pass.product(self.output(), &x, (self.scratch.logits.pointer, STORE_F32));
    }

    fn output(&self) -> &Matrix {
        self.output.as_ref().unwrap_or(&self.embedding)
    }

    /// Puts slots and the tables of their sequences onto the card; numbers to a table.
    fn put(&mut self, batch: &Batch<'_>, slots: &[usize]) -> usize {
        let own: Vec<Slot> = slots.iter().map(|slot| batch.slots[*slot]).collect();
        let mut tables: Vec<usize> = own.iter().map(|slot| slot.table).collect();
        tables.dedup();
        let used = |table: &usize| batch.tables[*table].len();
        let table_row = tables.iter().map(used).max().unwrap_or(1).next_power_of_two();
        let mut pages: Vec<Page> = Vec::with_capacity(tables.len() * table_row);
        for table in &tables {
            pages.extend(batch.tables[*table]);
            pages.resize(pages.len().next_multiple_of(table_row), 0);
        }
        let mut numbers: Vec<i32> = Vec::with_capacity(own.len() * SLOT);
        for slot in &own {
            let table = tables.iter().position(|table| *table == slot.table).unwrap_or(0);
            numbers.extend([slot.token as i32, slot.position as i32, table as i32]);
        }
        self.card.write(&mut self.slots, 0, &numbers);
        self.card.write(&mut self.tables, 0, &pages);
        table_row
    }

    fn pass(&self, form: Form, tokens: usize, table_row: usize) -> Pass<'_> {
        let (pairs, interleaved) = self.turn;
        Pass {
            card: &self.card,
            form,
            tokens,
            slots: self.slots.pointer,
            cache: Cache {
                rows: self.rows.pointer,
                tables: self.tables.pointer,
                table_row: table_row as i32,
                layers: self.layers.len() as i32,
                layer: 0,
                page_tokens: self.room.page_tokens as i32,
                row: self.row as i32,
            },
            turn: Turn {
                angles: self.angles.pointer,
                pairs: pairs as i32,
                interleaved: i32::from(interleaved),
            },
            parts: attention::parts(table_row * self.room.page_tokens),
            prompt: (0, 0),
            scratch: &self.scratch,
            grown: &self.grown,
        }
    }

    fn layers(&self, pass: &Pass<'_>) {
        let embed = Embed {
            slots: pass.slots,
            w: self.embedding.pointer(),
            element: i32::from(self.embedding.element == Element::Bf16),
            hidden: self.hidden as i32,
            x: self.scratch.x.pointer,
        };
        self.card.launch("embed", Grid::new([pass.tokens, 1, 1], 256), &embed);
        let x = self.scratch.x.pointer;
        for (index, layer) in self.layers.iter().enumerate() {
            let cache = Cache { layer: index as i32, ..pass.cache };
            let pass = Pass { cache, ..*pass };
            let norm = (&layer.attention_norm, self.hidden, self.epsilon);
            layer.attention.forward(&pass.normed(x, self.hidden, norm), &pass);
            let norm = (&layer.feed_norm, self.hidden, self.epsilon);
            layer.feed.forward(&pass.normed(x, self.hidden, norm), &pass);
        }
    }
}

impl Layer {
    fn load(loader: &Loader<'_>, shape: &Shape, index: usize) -> Result<Layer, LoadError> {
        let name = |part: &str| format!("model.layers.{index}.{part}");
        let norm = |part: &str| loader.vector(&name(part), shape.hidden);
        Ok(Layer {
            attention_norm: norm("input_layernorm.weight")?,
            attention: Attention::load(loader, shape, &name("self_attn"))?,
            feed_norm: norm("post_attention_layernorm.weight")?,
            feed: Feed::load(loader, shape, index)?,
        })
    }
}

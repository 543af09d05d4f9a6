//! Operands: registers, immediates, special registers, symbols and addresses, each as a slot.

use super::*;

impl<'a> Body<'a, '_> {
    /// Searches a scope and those around it.
    pub(super) fn find<T>(&self, from: usize, look: impl Fn(&Scope<'a>) -> Option<T>) -> Option<T> {
        let mut at = from;
        loop {
            let scope = &self.scopes[at];
            if let Some(found) = look(scope) {
                return Some(found);
            }
            if at == 0 {
                return None;
            }
            at = scope.parent;
        }
    }

    fn lookup(&self, name: &str) -> Option<Register> {
        let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
        let number = &name[stem.len()..];
        // Without leading zeros, as `%r<10>` names them.
        let number: Option<u32> =
            (number == "0" || !number.starts_with('0')).then(|| number.parse().ok()).flatten();
        self.find(self.scope, |scope| {
            scope.registers.get(name).copied().or_else(|| {
                let (register, count) = scope.ranges.get(stem)?;
                let number = number.filter(|number| number < count)?;
                Some(Register { ty: register.ty, slot: register.slot + number })
            })
        })
    }

    pub(super) fn register(&self, name: &str) -> Result<Register> {
        self.lookup(name).ok_or_else(|| ParseErrorKind::Name(name.into()))
    }

    pub(super) fn constant32(&mut self, value: u32) -> Slot {
        *self.constants32.entry(value).or_insert_with(|| {
            self.slots32 += 1;
            self.slots32 - 1
        })
    }

    pub(super) fn constant64(&mut self, value: Constant64) -> Slot {
        *self.constants64.entry(value).or_insert_with(|| {
            self.slots64 += 1;
            self.slots64 - 1
        })
    }

    fn constant_predicate(&mut self, value: bool) -> Slot {
        *self.constant_predicates.entry(value).or_insert_with(|| {
            self.predicates += 1;
            self.predicates - 1
        })
    }

    /// A slot of the 32-bit file that nobody reads.
    pub(super) fn sink32(&mut self) -> Slot {
        *self.sinks[0].get_or_insert_with(|| {
            self.slots32 += 1;
            self.slots32 - 1
        })
    }

    fn sink64(&mut self) -> Slot {
        *self.sinks[1].get_or_insert_with(|| {
            self.slots64 += 1;
            self.slots64 - 1
        })
    }

    pub(super) fn sink_predicate(&mut self) -> Slot {
        *self.sinks[2].get_or_insert_with(|| {
            self.predicates += 1;
            self.predicates - 1
        })
    }

    fn special(&mut self, name: &str) -> Option<(Special, bool)> {
        let special = name.strip_prefix('%')?;
        let axis = |rest: &str| ["x", "y", "z"].iter().position(|axis| *axis == rest).map(|axis| axis as u8);
        if let Some((stem, rest)) = special.split_once('.') {
            let axis = axis(rest)?;
            return Some((
                match stem {
                    "tid" => Special::Tid(axis),
                    "ntid" => Special::Ntid(axis),
                    "ctaid" => Special::Ctaid(axis),
                    "nctaid" => Special::Nctaid(axis),
                    "clusterid" | "cluster_ctaid" => Special::Zero,
                    "nclusterid" | "cluster_nctaid" => Special::One,
                    _ => return None,
                },
                false,
            ));
        }
        Some((
            match special {
                "laneid" => Special::Laneid,
                "warpid" => Special::Warpid,
                "nwarpid" => Special::Nwarpid,
                "lanemask_eq" => Special::LanemaskEq,
                "lanemask_le" => Special::LanemaskLe,
                "lanemask_lt" => Special::LanemaskLt,
                "lanemask_ge" => Special::LanemaskGe,
                "lanemask_gt" => Special::LanemaskGt,
                "dynamic_smem_size" => Special::DynamicShared,
                "total_smem_size" => Special::TotalShared,
                "smid" | "cluster_ctarank" => Special::Zero,
                "nsmid" | "cluster_nctarank" => Special::One,
                "gridid" => return Some((Special::Zero, true)),
                _ => return None,
            },
            special == "gridid",
        ))
    }

    /// A symbol's address as a slot of the asked file, if the name is one.
    fn symbol(&mut self, name: &'a str, offset: i64, wide: bool) -> Result<Option<Slot>> {
        if let Some(local) = self.find(self.scope, |scope| scope.locals.get(name).copied()) {
            return Ok(Some(self.address_constant(u64::from(local).wrapping_add_signed(offset), wide)));
        }
        if let Some(param) = self.params.iter().find(|param| param.name == name) {
            let address = u64::from(param.offset).wrapping_add_signed(offset);
            return Ok(Some(self.address_constant(address, wide)));
        }
        if let Some(shared) = self.shared.get(name) {
            let address = u64::from(*shared).wrapping_add_signed(offset);
            return Ok(Some(self.address_constant(address, wide)));
        }
        match self.reading.symbols.get(name).copied() {
            None => Ok(None),
            Some(Symbol::Global(index)) => {
                if !wide {
                    return operand_error(format!("{name} has a 64-bit address"));
                }
                self.reading.globals[index as usize].used = true;
                Ok(Some(self.constant64(Constant64::Global { index, offset })))
            }
            Some(Symbol::Shared { bytes, align }) => {
                let start = self.shared_bytes.next_multiple_of(align.max(1));
                let end = u64::from(start) + u64::from(bytes);
                if end > VARIABLE_BYTES_MAX {
                    return Err(ParseErrorKind::Limit { what: "bytes", limit: VARIABLE_BYTES_MAX });
                }
                self.shared.insert(name, start);
                self.shared_bytes = end as u32;
                Ok(Some(self.address_constant(u64::from(start).wrapping_add_signed(offset), wide)))
            }
            Some(Symbol::DynamicShared { align }) => {
                self.shared_align = self.shared_align.max(align);
                let file = if wide { &mut self.slots64 } else { &mut self.slots32 };
                let slot = *file;
                *file += 1;
                self.dynamic.push((wide, slot, offset));
                Ok(Some(slot))
            }
        }
    }

    fn address_constant(&mut self, address: u64, wide: bool) -> Slot {
        if wide { self.constant64(Constant64::Bits(address)) } else { self.constant32(address as u32) }
    }

    /// Whether an operand's width says that it lives in the 64-bit file.
    fn slot_of(&mut self, operand: &Operand<'a>, wide: bool, check: impl Fn(Type) -> bool) -> Result<Slot> {
        match operand {
            Operand::Name(name, offset) => {
                if let Some(register) = self.lookup(name) {
                    if *offset != 0 {
                        return operand_error("an offset outside an address");
                    }
                    if !check(register.ty) || (register.ty.bytes() == 8) != wide {
                        return operand_error(format!("{name} has type {}", register.ty));
                    }
                    return Ok(register.slot);
                }
                if *offset == 0
                    && let Some((special, special_wide)) = self.special(name)
                {
                    if special_wide && !wide {
                        return operand_error(format!("{name} has 64 bits"));
                    }
                    let (slots, file) = if wide {
                        (&mut self.wide_specials, &mut self.slots64)
                    } else {
                        (&mut self.specials, &mut self.slots32)
                    };
                    return Ok(*slots.entry(special).or_insert_with(|| {
                        *file += 1;
                        *file - 1
                    }));
                }
                if *name == "WARP_SZ" && *offset == 0 {
                    return Ok(self.address_constant(32, wide));
                }
                self.symbol(name, *offset, wide)?.ok_or_else(|| ParseErrorKind::Name((*name).into()))
            }
            Operand::Integer(value) if wide => Ok(self.constant64(Constant64::Bits(*value as u64))),
            Operand::Float64(bits) if wide => Ok(self.constant64(Constant64::Bits(*bits))),
            Operand::Integer(value) => Ok(self.constant32(*value as u32)),
            Operand::Float32(bits) if !wide => Ok(self.constant32(*bits)),
            other => operand_error(format!("{other:?} where a value is wanted")),
        }
    }

    /// A source of type `ty`, in the file that the type belongs to.
    pub(super) fn source(&mut self, operand: &Operand<'a>, ty: Type) -> Result<Slot> {
        match operand {
            Operand::Float32(_) if ty != Type::F32 && ty != Type::B32 => {
                return operand_error("an f32 constant where another type is wanted");
            }
            Operand::Integer(_) if ty == Type::F32 || ty == Type::F64 => {
                return operand_error("an integer constant where a float is wanted");
            }
            Operand::Integer(value) if ty.bytes() < 4 => {
                let mask = (1i64 << (ty.bytes() * 8)) - 1;
                return Ok(self.constant32((value & mask) as u32));
            }
            _ => {}
        }
        self.slot_of(operand, ty.bytes() == 8, |have| have.agrees(ty))
    }

    /// A source that may be wider than `ty`, as of a store or conversion, and its width in bytes.
    pub(super) fn wide_source(&mut self, operand: &Operand<'a>, ty: Type) -> Result<(Slot, u32)> {
        let bytes = match operand {
            Operand::Name(name, _) => self.lookup(name).map_or(ty.bytes(), |register| register.ty.bytes()),
            Operand::Float64(_) => 8,
            _ => ty.bytes(),
        };
        let slot =
            self.slot_of(operand, bytes == 8, |have| have != Type::Pred && have.bytes() >= ty.bytes())?;
        Ok((slot, bytes))
    }

    fn destination_register(&mut self, operand: &Operand<'a>) -> Result<Option<(Register, &'a str)>> {
        match operand {
            Operand::Name("_", 0) => Ok(None),
            Operand::Name(name, 0) => Ok(Some((self.register(name)?, name))),
            other => operand_error(format!("{other:?} as a destination")),
        }
    }

    /// A destination of type `ty`.
    pub(super) fn destination(&mut self, operand: &Operand<'a>, ty: Type) -> Result<Slot> {
        match self.destination_register(operand)? {
            None if ty.bytes() == 8 => Ok(self.sink64()),
            None => Ok(self.sink32()),
            Some((register, _)) if register.ty.agrees(ty) => Ok(register.slot),
            Some((register, name)) => operand_error(format!("{name} has type {}", register.ty)),
        }
    }

    /// A destination that may be wider than `ty`, as of a load or conversion, and its width in bytes.
    pub(super) fn wide_destination(&mut self, operand: &Operand<'a>, ty: Type) -> Result<(Slot, u32)> {
        match self.destination_register(operand)? {
            None if ty.bytes() == 8 => Ok((self.sink64(), 8)),
            None => Ok((self.sink32(), ty.bytes())),
            Some((r, name)) if r.ty == Type::Pred || r.ty.bytes() < ty.bytes() => {
                operand_error(format!("{name} has type {}", r.ty))
            }
            Some((register, _)) => Ok((register.slot, register.ty.bytes())),
        }
    }

    /// A predicate as a source, perhaps negated.
    pub(super) fn predicate(&mut self, operand: &Operand<'a>) -> Result<Predicate> {
        let (name, negated) = match operand {
            Operand::Name(name, 0) => (*name, false),
            Operand::Not(name) => (*name, true),
            Operand::Integer(value) => {
                return Ok(Predicate { slot: self.constant_predicate(*value != 0), negated: false });
            }
            other => return operand_error(format!("{other:?} as a predicate")),
        };
        let register = self.register(name)?;
        if register.ty != Type::Pred {
            return operand_error(format!("{name} is no predicate"));
        }
        Ok(Predicate { slot: register.slot, negated })
    }

    /// A predicate as a destination.
    pub(super) fn predicate_destination(&mut self, name: &str) -> Result<Slot> {
        if name == "_" {
            return Ok(self.sink_predicate());
        }
        let register = self.register(name)?;
        if register.ty == Type::Pred {
            Ok(register.slot)
        } else {
            operand_error(format!("{name} is no predicate"))
        }
    }

    /// `d|p` or `d`: the names of both.
    pub(super) fn pair(&self, operand: &Operand<'a>) -> Result<(Operand<'a>, Option<&'a str>)> {
        match operand {
            Operand::Pair(d, p) => Ok((Operand::Name(d, 0), Some(p))),
            Operand::Name(d, 0) => Ok((Operand::Name(d, 0), None)),
            other => operand_error(format!("{other:?} as a destination")),
        }
    }

    /// An address.
    pub(super) fn address(&mut self, operand: &Operand<'a>) -> Result<Address> {
        let Operand::Address(base, offset) = operand else {
            return operand_error(format!("{operand:?} where an address is wanted"));
        };
        let Some(name) = base else {
            return Ok(Address {
                slot: self.constant64(Constant64::Bits(*offset as u64)),
                wide: true,
                offset: 0,
            });
        };
        if let Some(register) = self.lookup(name) {
            let wide = match register.ty {
                Type::U32 | Type::B32 | Type::S32 => false,
                Type::U64 | Type::B64 | Type::S64 => true,
                ty => return operand_error(format!("{name} has type {ty} and is no address")),
            };
            return Ok(Address { slot: register.slot, wide, offset: *offset });
        }
        let slot = self.symbol(name, 0, true)?.ok_or_else(|| ParseErrorKind::Name((*name).into()))?;
        Ok(Address { slot, wide: true, offset: *offset })
    }

    /// A vector of `N` operands; a single one if `N` is 1.
    pub(super) fn vector<'o, const N: usize>(
        &self,
        operand: &'o Operand<'a>,
    ) -> Result<[&'o Operand<'a>; N]> {
        let Operand::Vector(items) = operand else {
            return operand_error(format!("a vector of {N} is wanted"));
        };
        let items: Vec<&Operand<'a>> = items.iter().collect();
        items.try_into().or_else(|items: Vec<_>| {
            operand_error(format!("{N} in a vector are wanted, not {}", items.len()))
        })
    }

    /// A number that the instruction holds.
    pub(super) fn immediate(&self, operand: &Operand<'a>) -> Result<i64> {
        match operand {
            Operand::Integer(value) => Ok(*value),
            other => operand_error(format!("{other:?} where a constant is wanted")),
        }
    }
}

/// Exactly `N` operands.
pub(super) fn exactly<'o, 'a, const N: usize>(operands: &'o [Operand<'a>]) -> Result<&'o [Operand<'a>; N]> {
    operands.try_into().or_else(|_| operand_error(format!("{N} are wanted, not {}", operands.len())))
}

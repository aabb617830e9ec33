package aml

// Name makes a named object with a constant value.
func Name(path string, value Term) Term { return Join(raw(opName), Path(path), value) }

// Scope opens an existing place of the namespace for more objects.
func Scope(path string, objects ...Term) Term {
	return packaged([]byte{opScope}, Path(path), Join(objects...))
}

// Device makes a device with its objects.
func Device(path string, objects ...Term) Term {
	return packaged([]byte{opExt, extDevice}, Path(path), Join(objects...))
}

// Method makes a control method of args (0 to 7) arguments. A serialized one
// is not entered twice at a time, which a method that makes names or reads
// registers with side effects needs.
func Method(path string, args int, serialized bool, body ...Term) Term {
	if args < 0 || args > 7 {
		return invalid("method %s: %d arguments: the most is 7", path, args)
	}
	flags := byte(args)
	if serialized {
		flags |= 1 << 3
	}
	return packaged([]byte{opMethod}, Path(path), raw(flags), Join(body...))
}

// Space is an address space of operation regions.
type Space byte

const (
	SystemMemory Space = 0
	SystemIO     Space = 1
)

// OperationRegion names length bytes of an address space.
func OperationRegion(path string, space Space, offset, length uint64) Term {
	return Join(raw(opExt, extRegion), Path(path), raw(byte(space)), Integer(offset), Integer(length))
}

// Access is the width in which a field's registers are accessed.
type Access byte

const (
	ByteAcc  Access = 1
	WordAcc  Access = 2
	DWordAcc Access = 3
	QWordAcc Access = 4
)

// Update tells what a write to a part of a register does to the rest of it.
type Update byte

const (
	Preserve     Update = 0
	WriteAsOnes  Update = 1
	WriteAsZeros Update = 2
)

// Field names bits of an operation region, without the global lock. The units
// follow each other from bit 0.
func Field(region string, access Access, update Update, units ...Term) Term {
	return packaged([]byte{opExt, extField}, Path(region), raw(byte(access)|byte(update)<<5), Join(units...))
}

// Bits is a unit of Field: n bits with a name.
func Bits(name string, n int) Term { return Join(segment(name), fieldBits(n)) }

// Skip is a unit of Field: n bits without a name.
func Skip(n int) Term { return Join(raw(0), fieldBits(n)) }

// fieldBits encodes a count of bits as a package length is, but one that does
// not count itself.
func fieldBits(n int) Term {
	switch {
	case n < 0 || n > maxFieldBits:
		return invalid("field of %d bits: the most is %d", n, maxFieldBits)
	case n < 1<<6:
		return lengthBytes(n, 1)
	case n < 1<<12:
		return lengthBytes(n, 2)
	case n < 1<<20:
		return lengthBytes(n, 3)
	}
	return lengthBytes(n, 4)
}

// Local is one of a method's variables, 0 to 7.
func Local(n int) Term {
	if n < 0 || n > 7 {
		return invalid("local variable %d: the last is 7", n)
	}
	return raw(opLocal0 + byte(n))
}

// Arg is one of a method's arguments, 0 to 6.
func Arg(n int) Term {
	if n < 0 || n > 6 {
		return invalid("argument %d: the last is 6", n)
	}
	return raw(opArg0 + byte(n))
}

// Store copies a value into a variable or a named object.
func Store(value, target Term) Term { return Join(raw(opStore), value, target) }

// And is the bitwise and of two values.
func And(a, b Term) Term { return Join(raw(opAnd), a, b, raw(0)) } // no target

// Equal compares two values.
func Equal(a, b Term) Term { return Join(raw(opEqual), a, b) }

// If runs statements when a value is not zero.
func If(condition Term, body ...Term) Term {
	return packaged([]byte{opIf}, condition, Join(body...))
}

// Notify sends a device's driver a notification.
func Notify(device string, value uint64) Term {
	return Join(raw(opNotify), Path(device), Integer(value))
}

// Return ends a method with a value.
func Return(value Term) Term { return Join(raw(opReturn), value) }

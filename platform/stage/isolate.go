package stage

// Isolate finds the items for which a batch has failed with cause, so that the others take effect: it settles each
// half of the batch by itself and halves again what fails, until an item fails alone, which failed gets with its
// error. The halves are settled in order. settle must be all or nothing.
//
// Isolate ends with the first error that blames does not lay on an item, such as that the database is away, or that
// failed returns: what comes after it is not settled.
func Isolate[T any](batch []T, cause error, settle func([]T) error, blames func(error) bool,
	failed func(T, error) error) error {
	if len(batch) == 1 {
		return failed(batch[0], cause)
	}
	for _, half := range [][]T{batch[:len(batch)/2], batch[len(batch)/2:]} {
		err := settle(half)
		if err != nil && blames(err) {
			err = Isolate(half, err, settle, blames, failed)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

"""How good a displacement is, and what that says of the methods.

measures is the registry of what is measured; metrics and surfaces compute it, pair measures a pair with all that it
has, weight_search at each λ of a conditional network; reported is what registrations say of themselves. tables hold it,
and from them alone come statistics, comparison, selection and quality, without an imaging library.
May import every room but figures, report, experiments and pool.
"""

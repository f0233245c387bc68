module leno.mesh/interop/differential

go 1.21

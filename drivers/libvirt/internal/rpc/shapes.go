package rpc

import (
	"fmt"
	"reflect"

	"github.com/digitalocean/go-libvirt"

	"github.com/polyvisor/polyvisor/drivers/libvirt/internal/xdr"
)

// shapeOf names what a frame carries: TypeReply or TypeMessage of a procedure.
type shapeOf struct{ program, procedure, typ uint32 }

// fits tells whether go-libvirt can be given a frame. Its decoder believes the count that stands before an array or
// a string, and makes room for two thousand million elements, which ends the whole process, before it looks for them.
func fits(h Header, payload []byte) error {
	r := xdr.NewReader(payload)
	if h.Status == StatusError {
		return unlessMalformed(decodeError(r))
	}
	t, ok := shapes[shapeOf{h.Program, h.Procedure, h.Type}]
	if !ok {
		return nil // of fixed size
	}
	walk(r, t)
	if err := r.Err(); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrProtocol, h, err)
	}
	return nil
}

// unlessMalformed is nil for an error that the server told.
func unlessMalformed(err error) error {
	if _, told := err.(*Error); told {
		return nil
	}
	return err
}

var typedParam = reflect.TypeFor[libvirt.TypedParam]()

// walk reads a value of a type as go-libvirt does, and keeps nothing.
func walk(r *xdr.Reader, t reflect.Type) {
	switch {
	case r.Err() != nil:
	case t == typedParam:
		r.Opaque(MaxMessage)
		switch d := r.Uint32(); d {
		case 1, 2, 6: // int, unsigned int, boolean
			r.Uint32()
		case 3, 4, 5: // hyper, unsigned hyper, double
			r.Uint64()
		case 7:
			r.Opaque(MaxMessage)
		default:
			r.Malformed("a parameter of type %d", d)
		}
	default:
		walkKind(r, t)
	}
}

func walkKind(r *xdr.Reader, t reflect.Type) {
	switch t.Kind() {
	case reflect.String:
		r.Opaque(MaxMessage)
	case reflect.Slice:
		if t.Elem().Kind() == reflect.Uint8 {
			r.Opaque(MaxMessage)
			return
		}
		for range r.Count(MaxMessage, 4) {
			if walk(r, t.Elem()); r.Err() != nil {
				return
			}
		}
	case reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			r.Fixed(make([]byte, t.Len()))
			return
		}
		for range t.Len() {
			walk(r, t.Elem())
		}
	case reflect.Struct:
		for i := range t.NumField() {
			walk(r, t.Field(i).Type)
		}
	case reflect.Int64, reflect.Uint64, reflect.Float64:
		r.Uint64()
	default:
		r.Uint32()
	}
}

// shapes are the types that go-libvirt decodes replies and events into, of those with parts of any length. A test holds
// them against its source.
var shapes = map[shapeOf]reflect.Type{
	{ProgramRemote, 3, TypeReply}:                reflect.TypeFor[libvirt.ConnectGetTypeRet](),
	{ProgramRemote, 7, TypeReply}:                reflect.TypeFor[libvirt.ConnectGetCapabilitiesRet](),
	{ProgramRemote, 10, TypeReply}:               reflect.TypeFor[libvirt.DomainCreateXMLRet](),
	{ProgramRemote, 11, TypeReply}:               reflect.TypeFor[libvirt.DomainDefineXMLRet](),
	{ProgramRemote, 14, TypeReply}:               reflect.TypeFor[libvirt.DomainGetXMLDescRet](),
	{ProgramRemote, 19, TypeReply}:               reflect.TypeFor[libvirt.DomainGetOsTypeRet](),
	{ProgramRemote, 20, TypeReply}:               reflect.TypeFor[libvirt.DomainGetVcpusRet](),
	{ProgramRemote, 21, TypeReply}:               reflect.TypeFor[libvirt.ConnectListDefinedDomainsRet](),
	{ProgramRemote, 22, TypeReply}:               reflect.TypeFor[libvirt.DomainLookupByIDRet](),
	{ProgramRemote, 23, TypeReply}:               reflect.TypeFor[libvirt.DomainLookupByNameRet](),
	{ProgramRemote, 24, TypeReply}:               reflect.TypeFor[libvirt.DomainLookupByUUIDRet](),
	{ProgramRemote, 36, TypeReply}:               reflect.TypeFor[libvirt.ConnectListDefinedNetworksRet](),
	{ProgramRemote, 37, TypeReply}:               reflect.TypeFor[libvirt.ConnectListDomainsRet](),
	{ProgramRemote, 38, TypeReply}:               reflect.TypeFor[libvirt.ConnectListNetworksRet](),
	{ProgramRemote, 40, TypeReply}:               reflect.TypeFor[libvirt.NetworkCreateXMLRet](),
	{ProgramRemote, 41, TypeReply}:               reflect.TypeFor[libvirt.NetworkDefineXMLRet](),
	{ProgramRemote, 43, TypeReply}:               reflect.TypeFor[libvirt.NetworkGetXMLDescRet](),
	{ProgramRemote, 45, TypeReply}:               reflect.TypeFor[libvirt.NetworkGetBridgeNameRet](),
	{ProgramRemote, 46, TypeReply}:               reflect.TypeFor[libvirt.NetworkLookupByNameRet](),
	{ProgramRemote, 47, TypeReply}:               reflect.TypeFor[libvirt.NetworkLookupByUUIDRet](),
	{ProgramRemote, 56, TypeReply}:               reflect.TypeFor[libvirt.DomainGetSchedulerTypeRet](),
	{ProgramRemote, 57, TypeReply}:               reflect.TypeFor[libvirt.DomainGetSchedulerParametersRet](),
	{ProgramRemote, 59, TypeReply}:               reflect.TypeFor[libvirt.ConnectGetHostnameRet](),
	{ProgramRemote, 61, TypeReply}:               reflect.TypeFor[libvirt.DomainMigratePrepareRet](),
	{ProgramRemote, 63, TypeReply}:               reflect.TypeFor[libvirt.DomainMigrateFinishRet](),
	{ProgramRemote, 66, TypeReply}:               reflect.TypeFor[libvirt.AuthListRet](),
	{ProgramRemote, 67, TypeReply}:               reflect.TypeFor[libvirt.AuthSaslInitRet](),
	{ProgramRemote, 68, TypeReply}:               reflect.TypeFor[libvirt.AuthSaslStartRet](),
	{ProgramRemote, 69, TypeReply}:               reflect.TypeFor[libvirt.AuthSaslStepRet](),
	{ProgramRemote, 72, TypeReply}:               reflect.TypeFor[libvirt.ConnectListStoragePoolsRet](),
	{ProgramRemote, 74, TypeReply}:               reflect.TypeFor[libvirt.ConnectListDefinedStoragePoolsRet](),
	{ProgramRemote, 75, TypeReply}:               reflect.TypeFor[libvirt.ConnectFindStoragePoolSourcesRet](),
	{ProgramRemote, 76, TypeReply}:               reflect.TypeFor[libvirt.StoragePoolCreateXMLRet](),
	{ProgramRemote, 77, TypeReply}:               reflect.TypeFor[libvirt.StoragePoolDefineXMLRet](),
	{ProgramRemote, 84, TypeReply}:               reflect.TypeFor[libvirt.StoragePoolLookupByNameRet](),
	{ProgramRemote, 85, TypeReply}:               reflect.TypeFor[libvirt.StoragePoolLookupByUUIDRet](),
	{ProgramRemote, 86, TypeReply}:               reflect.TypeFor[libvirt.StoragePoolLookupByVolumeRet](),
	{ProgramRemote, 88, TypeReply}:               reflect.TypeFor[libvirt.StoragePoolGetXMLDescRet](),
	{ProgramRemote, 92, TypeReply}:               reflect.TypeFor[libvirt.StoragePoolListVolumesRet](),
	{ProgramRemote, 93, TypeReply}:               reflect.TypeFor[libvirt.StorageVolCreateXMLRet](),
	{ProgramRemote, 95, TypeReply}:               reflect.TypeFor[libvirt.StorageVolLookupByNameRet](),
	{ProgramRemote, 96, TypeReply}:               reflect.TypeFor[libvirt.StorageVolLookupByKeyRet](),
	{ProgramRemote, 97, TypeReply}:               reflect.TypeFor[libvirt.StorageVolLookupByPathRet](),
	{ProgramRemote, 99, TypeReply}:               reflect.TypeFor[libvirt.StorageVolGetXMLDescRet](),
	{ProgramRemote, 100, TypeReply}:              reflect.TypeFor[libvirt.StorageVolGetPathRet](),
	{ProgramRemote, 101, TypeReply}:              reflect.TypeFor[libvirt.NodeGetCellsFreeMemoryRet](),
	{ProgramRemote, 103, TypeReply}:              reflect.TypeFor[libvirt.DomainBlockPeekRet](),
	{ProgramRemote, 104, TypeReply}:              reflect.TypeFor[libvirt.DomainMemoryPeekRet](),
	{ProgramRemote, 108, TypeReply}:              reflect.TypeFor[libvirt.DomainMigratePrepare2Ret](),
	{ProgramRemote, 109, TypeReply}:              reflect.TypeFor[libvirt.DomainMigrateFinish2Ret](),
	{ProgramRemote, 110, TypeReply}:              reflect.TypeFor[libvirt.ConnectGetUriRet](),
	{ProgramRemote, 112, TypeReply}:              reflect.TypeFor[libvirt.NodeListDevicesRet](),
	{ProgramRemote, 113, TypeReply}:              reflect.TypeFor[libvirt.NodeDeviceLookupByNameRet](),
	{ProgramRemote, 114, TypeReply}:              reflect.TypeFor[libvirt.NodeDeviceGetXMLDescRet](),
	{ProgramRemote, 115, TypeReply}:              reflect.TypeFor[libvirt.NodeDeviceGetParentRet](),
	{ProgramRemote, 117, TypeReply}:              reflect.TypeFor[libvirt.NodeDeviceListCapsRet](),
	{ProgramRemote, 121, TypeReply}:              reflect.TypeFor[libvirt.DomainGetSecurityLabelRet](),
	{ProgramRemote, 122, TypeReply}:              reflect.TypeFor[libvirt.NodeGetSecurityModelRet](),
	{ProgramRemote, 123, TypeReply}:              reflect.TypeFor[libvirt.NodeDeviceCreateXMLRet](),
	{ProgramRemote, 125, TypeReply}:              reflect.TypeFor[libvirt.StorageVolCreateXMLFromRet](),
	{ProgramRemote, 127, TypeReply}:              reflect.TypeFor[libvirt.ConnectListInterfacesRet](),
	{ProgramRemote, 128, TypeReply}:              reflect.TypeFor[libvirt.InterfaceLookupByNameRet](),
	{ProgramRemote, 129, TypeReply}:              reflect.TypeFor[libvirt.InterfaceLookupByMacStringRet](),
	{ProgramRemote, 130, TypeReply}:              reflect.TypeFor[libvirt.InterfaceGetXMLDescRet](),
	{ProgramRemote, 131, TypeReply}:              reflect.TypeFor[libvirt.InterfaceDefineXMLRet](),
	{ProgramRemote, 135, TypeReply}:              reflect.TypeFor[libvirt.ConnectDomainXMLFromNativeRet](),
	{ProgramRemote, 136, TypeReply}:              reflect.TypeFor[libvirt.ConnectDomainXMLToNativeRet](),
	{ProgramRemote, 138, TypeReply}:              reflect.TypeFor[libvirt.ConnectListDefinedInterfacesRet](),
	{ProgramRemote, 140, TypeReply}:              reflect.TypeFor[libvirt.ConnectListSecretsRet](),
	{ProgramRemote, 141, TypeReply}:              reflect.TypeFor[libvirt.SecretLookupByUUIDRet](),
	{ProgramRemote, 142, TypeReply}:              reflect.TypeFor[libvirt.SecretDefineXMLRet](),
	{ProgramRemote, 143, TypeReply}:              reflect.TypeFor[libvirt.SecretGetXMLDescRet](),
	{ProgramRemote, 145, TypeReply}:              reflect.TypeFor[libvirt.SecretGetValueRet](),
	{ProgramRemote, 147, TypeReply}:              reflect.TypeFor[libvirt.SecretLookupByUsageRet](),
	{ProgramRemote, 159, TypeReply}:              reflect.TypeFor[libvirt.DomainMemoryStatsRet](),
	{ProgramRemote, 162, TypeReply}:              reflect.TypeFor[libvirt.ConnectBaselineCPURet](),
	{ProgramRemote, 175, TypeReply}:              reflect.TypeFor[libvirt.NwfilterLookupByNameRet](),
	{ProgramRemote, 176, TypeReply}:              reflect.TypeFor[libvirt.NwfilterLookupByUUIDRet](),
	{ProgramRemote, 177, TypeReply}:              reflect.TypeFor[libvirt.NwfilterGetXMLDescRet](),
	{ProgramRemote, 179, TypeReply}:              reflect.TypeFor[libvirt.ConnectListNwfiltersRet](),
	{ProgramRemote, 180, TypeReply}:              reflect.TypeFor[libvirt.NwfilterDefineXMLRet](),
	{ProgramRemote, 185, TypeReply}:              reflect.TypeFor[libvirt.DomainSnapshotCreateXMLRet](),
	{ProgramRemote, 186, TypeReply}:              reflect.TypeFor[libvirt.DomainSnapshotGetXMLDescRet](),
	{ProgramRemote, 188, TypeReply}:              reflect.TypeFor[libvirt.DomainSnapshotListNamesRet](),
	{ProgramRemote, 189, TypeReply}:              reflect.TypeFor[libvirt.DomainSnapshotLookupByNameRet](),
	{ProgramRemote, 191, TypeReply}:              reflect.TypeFor[libvirt.DomainSnapshotCurrentRet](),
	{ProgramRemote, 196, TypeReply}:              reflect.TypeFor[libvirt.DomainCreateWithFlagsRet](),
	{ProgramRemote, 198, TypeReply}:              reflect.TypeFor[libvirt.DomainGetMemoryParametersRet](),
	{ProgramRemote, 203, TypeReply}:              reflect.TypeFor[libvirt.ConnectGetSysinfoRet](),
	{ProgramRemote, 206, TypeReply}:              reflect.TypeFor[libvirt.DomainGetBlkioParametersRet](),
	{ProgramRemote, 211, TypeReply}:              reflect.TypeFor[libvirt.DomainScreenshotRet](),
	{ProgramRemote, 213, TypeReply}:              reflect.TypeFor[libvirt.DomainMigrateBegin3Ret](),
	{ProgramRemote, 214, TypeReply}:              reflect.TypeFor[libvirt.DomainMigratePrepare3Ret](),
	{ProgramRemote, 215, TypeReply}:              reflect.TypeFor[libvirt.DomainMigratePrepareTunnel3Ret](),
	{ProgramRemote, 216, TypeReply}:              reflect.TypeFor[libvirt.DomainMigratePerform3Ret](),
	{ProgramRemote, 217, TypeReply}:              reflect.TypeFor[libvirt.DomainMigrateFinish3Ret](),
	{ProgramRemote, 223, TypeReply}:              reflect.TypeFor[libvirt.DomainGetSchedulerParametersFlagsRet](),
	{ProgramRemote, 227, TypeReply}:              reflect.TypeFor[libvirt.NodeGetCPUStatsRet](),
	{ProgramRemote, 228, TypeReply}:              reflect.TypeFor[libvirt.NodeGetMemoryStatsRet](),
	{ProgramRemote, 230, TypeReply}:              reflect.TypeFor[libvirt.DomainGetVcpuPinInfoRet](),
	{ProgramRemote, 235, TypeReply}:              reflect.TypeFor[libvirt.DomainSaveImageGetXMLDescRet](),
	{ProgramRemote, 243, TypeReply}:              reflect.TypeFor[libvirt.DomainBlockStatsFlagsRet](),
	{ProgramRemote, 244, TypeReply}:              reflect.TypeFor[libvirt.DomainSnapshotGetParentRet](),
	{ProgramRemote, 247, TypeReply}:              reflect.TypeFor[libvirt.DomainSnapshotListChildrenNamesRet](),
	{ProgramRemote, 253, TypeReply}:              reflect.TypeFor[libvirt.DomainGetBlockIOTuneRet](),
	{ProgramRemote, 255, TypeReply}:              reflect.TypeFor[libvirt.DomainGetNumaParametersRet](),
	{ProgramRemote, 257, TypeReply}:              reflect.TypeFor[libvirt.DomainGetInterfaceParametersRet](),
	{ProgramRemote, 262, TypeReply}:              reflect.TypeFor[libvirt.DomainGetCPUStatsRet](),
	{ProgramRemote, 263, TypeReply}:              reflect.TypeFor[libvirt.DomainGetDiskErrorsRet](),
	{ProgramRemote, 265, TypeReply}:              reflect.TypeFor[libvirt.DomainGetMetadataRet](),
	{ProgramRemote, 273, TypeReply}:              reflect.TypeFor[libvirt.ConnectListAllDomainsRet](),
	{ProgramRemote, 274, TypeReply}:              reflect.TypeFor[libvirt.DomainListAllSnapshotsRet](),
	{ProgramRemote, 275, TypeReply}:              reflect.TypeFor[libvirt.DomainSnapshotListAllChildrenRet](),
	{ProgramRemote, 277, TypeReply}:              reflect.TypeFor[libvirt.DomainGetHostnameRet](),
	{ProgramRemote, 278, TypeReply}:              reflect.TypeFor[libvirt.DomainGetSecurityLabelListRet](),
	{ProgramRemote, 280, TypeReply}:              reflect.TypeFor[libvirt.DomainGetEmulatorPinInfoRet](),
	{ProgramRemote, 281, TypeReply}:              reflect.TypeFor[libvirt.ConnectListAllStoragePoolsRet](),
	{ProgramRemote, 282, TypeReply}:              reflect.TypeFor[libvirt.StoragePoolListAllVolumesRet](),
	{ProgramRemote, 283, TypeReply}:              reflect.TypeFor[libvirt.ConnectListAllNetworksRet](),
	{ProgramRemote, 284, TypeReply}:              reflect.TypeFor[libvirt.ConnectListAllInterfacesRet](),
	{ProgramRemote, 285, TypeReply}:              reflect.TypeFor[libvirt.ConnectListAllNodeDevicesRet](),
	{ProgramRemote, 286, TypeReply}:              reflect.TypeFor[libvirt.ConnectListAllNwfiltersRet](),
	{ProgramRemote, 287, TypeReply}:              reflect.TypeFor[libvirt.ConnectListAllSecretsRet](),
	{ProgramRemote, 289, TypeReply}:              reflect.TypeFor[libvirt.NodeGetMemoryParametersRet](),
	{ProgramRemote, 293, TypeReply}:              reflect.TypeFor[libvirt.NodeGetCPUMapRet](),
	{ProgramRemote, 297, TypeReply}:              reflect.TypeFor[libvirt.NodeDeviceLookupScsiHostByWwnRet](),
	{ProgramRemote, 298, TypeReply}:              reflect.TypeFor[libvirt.DomainGetJobStatsRet](),
	{ProgramRemote, 302, TypeReply}:              reflect.TypeFor[libvirt.DomainMigrateBegin3ParamsRet](),
	{ProgramRemote, 303, TypeReply}:              reflect.TypeFor[libvirt.DomainMigratePrepare3ParamsRet](),
	{ProgramRemote, 304, TypeReply}:              reflect.TypeFor[libvirt.DomainMigratePrepareTunnel3ParamsRet](),
	{ProgramRemote, 305, TypeReply}:              reflect.TypeFor[libvirt.DomainMigratePerform3ParamsRet](),
	{ProgramRemote, 306, TypeReply}:              reflect.TypeFor[libvirt.DomainMigrateFinish3ParamsRet](),
	{ProgramRemote, 309, TypeReply}:              reflect.TypeFor[libvirt.DomainCreateXMLWithFilesRet](),
	{ProgramRemote, 310, TypeReply}:              reflect.TypeFor[libvirt.DomainCreateWithFilesRet](),
	{ProgramRemote, 312, TypeReply}:              reflect.TypeFor[libvirt.ConnectGetCPUModelNamesRet](),
	{ProgramRemote, 340, TypeReply}:              reflect.TypeFor[libvirt.NodeGetFreePagesRet](),
	{ProgramRemote, 341, TypeReply}:              reflect.TypeFor[libvirt.NetworkGetDhcpLeasesRet](),
	{ProgramRemote, 342, TypeReply}:              reflect.TypeFor[libvirt.ConnectGetDomainCapabilitiesRet](),
	{ProgramRemote, 344, TypeReply}:              reflect.TypeFor[libvirt.ConnectGetAllDomainStatsRet](),
	{ProgramRemote, 349, TypeReply}:              reflect.TypeFor[libvirt.DomainGetFsinfoRet](),
	{ProgramRemote, 350, TypeReply}:              reflect.TypeFor[libvirt.DomainDefineXMLFlagsRet](),
	{ProgramRemote, 351, TypeReply}:              reflect.TypeFor[libvirt.DomainGetIothreadInfoRet](),
	{ProgramRemote, 353, TypeReply}:              reflect.TypeFor[libvirt.DomainInterfaceAddressesRet](),
	{ProgramRemote, 365, TypeReply}:              reflect.TypeFor[libvirt.DomainGetPerfEventsRet](),
	{ProgramRemote, 371, TypeReply}:              reflect.TypeFor[libvirt.DomainGetGuestVcpusRet](),
	{ProgramRemote, 388, TypeReply}:              reflect.TypeFor[libvirt.DomainManagedSaveGetXMLDescRet](),
	{ProgramRemote, 391, TypeReply}:              reflect.TypeFor[libvirt.StoragePoolLookupByTargetPathRet](),
	{ProgramRemote, 394, TypeReply}:              reflect.TypeFor[libvirt.ConnectBaselineHypervisorCPURet](),
	{ProgramRemote, 395, TypeReply}:              reflect.TypeFor[libvirt.NodeGetSevInfoRet](),
	{ProgramRemote, 396, TypeReply}:              reflect.TypeFor[libvirt.DomainGetLaunchSecurityInfoRet](),
	{ProgramRemote, 397, TypeReply}:              reflect.TypeFor[libvirt.NwfilterBindingLookupByPortDevRet](),
	{ProgramRemote, 398, TypeReply}:              reflect.TypeFor[libvirt.NwfilterBindingGetXMLDescRet](),
	{ProgramRemote, 399, TypeReply}:              reflect.TypeFor[libvirt.NwfilterBindingCreateXMLRet](),
	{ProgramRemote, 401, TypeReply}:              reflect.TypeFor[libvirt.ConnectListAllNwfilterBindingsRet](),
	{ProgramRemote, 403, TypeReply}:              reflect.TypeFor[libvirt.ConnectGetStoragePoolCapabilitiesRet](),
	{ProgramRemote, 404, TypeReply}:              reflect.TypeFor[libvirt.NetworkListAllPortsRet](),
	{ProgramRemote, 405, TypeReply}:              reflect.TypeFor[libvirt.NetworkPortLookupByUUIDRet](),
	{ProgramRemote, 406, TypeReply}:              reflect.TypeFor[libvirt.NetworkPortCreateXMLRet](),
	{ProgramRemote, 407, TypeReply}:              reflect.TypeFor[libvirt.NetworkPortGetParametersRet](),
	{ProgramRemote, 409, TypeReply}:              reflect.TypeFor[libvirt.NetworkPortGetXMLDescRet](),
	{ProgramRemote, 411, TypeReply}:              reflect.TypeFor[libvirt.DomainCheckpointCreateXMLRet](),
	{ProgramRemote, 412, TypeReply}:              reflect.TypeFor[libvirt.DomainCheckpointGetXMLDescRet](),
	{ProgramRemote, 413, TypeReply}:              reflect.TypeFor[libvirt.DomainListAllCheckpointsRet](),
	{ProgramRemote, 414, TypeReply}:              reflect.TypeFor[libvirt.DomainCheckpointListAllChildrenRet](),
	{ProgramRemote, 415, TypeReply}:              reflect.TypeFor[libvirt.DomainCheckpointLookupByNameRet](),
	{ProgramRemote, 416, TypeReply}:              reflect.TypeFor[libvirt.DomainCheckpointGetParentRet](),
	{ProgramRemote, 418, TypeReply}:              reflect.TypeFor[libvirt.DomainGetGuestInfoRet](),
	{ProgramRemote, 422, TypeReply}:              reflect.TypeFor[libvirt.DomainBackupGetXMLDescRet](),
	{ProgramRemote, 424, TypeReply}:              reflect.TypeFor[libvirt.DomainAuthorizedSshKeysGetRet](),
	{ProgramRemote, 426, TypeReply}:              reflect.TypeFor[libvirt.DomainGetMessagesRet](),
	{ProgramRemote, 428, TypeReply}:              reflect.TypeFor[libvirt.NodeDeviceDefineXMLRet](),
	{ProgramRemote, 431, TypeReply}:              reflect.TypeFor[libvirt.NwfilterDefineXMLFlagsRet](),
	{ProgramRemote, 432, TypeReply}:              reflect.TypeFor[libvirt.NetworkDefineXMLFlagsRet](),
	{ProgramRemote, 437, TypeReply}:              reflect.TypeFor[libvirt.NetworkCreateXMLFlagsRet](),
	{ProgramRemote, 445, TypeReply}:              reflect.TypeFor[libvirt.NetworkGetMetadataRet](),
	{ProgramQEMU, 1, TypeReply}:                  reflect.TypeFor[libvirt.QEMUDomainMonitorCommandRet](),
	{ProgramQEMU, 2, TypeReply}:                  reflect.TypeFor[libvirt.QEMUDomainAttachRet](),
	{ProgramQEMU, 3, TypeReply}:                  reflect.TypeFor[libvirt.QEMUDomainAgentCommandRet](),
	{ProgramQEMU, 7, TypeReply}:                  reflect.TypeFor[libvirt.QEMUDomainMonitorCommandWithFilesRet](),
	{ProgramRemote, 318, TypeMessage}:            reflect.TypeFor[libvirt.DomainEventCallbackLifecycleMsg](),
	{ProgramRemote, 319, TypeMessage}:            reflect.TypeFor[libvirt.DomainEventCallbackRebootMsg](),
	{ProgramRemote, 320, TypeMessage}:            reflect.TypeFor[libvirt.DomainEventCallbackRtcChangeMsg](),
	{ProgramRemote, 321, TypeMessage}:            reflect.TypeFor[libvirt.DomainEventCallbackWatchdogMsg](),
	{ProgramRemote, 322, TypeMessage}:            reflect.TypeFor[libvirt.DomainEventCallbackIOErrorMsg](),
	{ProgramRemote, 323, TypeMessage}:            reflect.TypeFor[libvirt.DomainEventCallbackGraphicsMsg](),
	{ProgramRemote, 324, TypeMessage}:            reflect.TypeFor[libvirt.DomainEventCallbackIOErrorReasonMsg](),
	{ProgramRemote, 325, TypeMessage}:            reflect.TypeFor[libvirt.DomainEventCallbackControlErrorMsg](),
	{ProgramRemote, 326, TypeMessage}:            reflect.TypeFor[libvirt.DomainEventCallbackBlockJobMsg](),
	{ProgramRemote, 327, TypeMessage}:            reflect.TypeFor[libvirt.DomainEventCallbackDiskChangeMsg](),
	{ProgramRemote, 328, TypeMessage}:            reflect.TypeFor[libvirt.DomainEventCallbackTrayChangeMsg](),
	{ProgramRemote, 329, TypeMessage}:            reflect.TypeFor[libvirt.DomainEventCallbackPmwakeupMsg](),
	{ProgramRemote, 330, TypeMessage}:            reflect.TypeFor[libvirt.DomainEventCallbackPmsuspendMsg](),
	{ProgramRemote, 331, TypeMessage}:            reflect.TypeFor[libvirt.DomainEventCallbackBalloonChangeMsg](),
	{ProgramRemote, 332, TypeMessage}:            reflect.TypeFor[libvirt.DomainEventCallbackPmsuspendDiskMsg](),
	{ProgramRemote, 333, TypeMessage}:            reflect.TypeFor[libvirt.DomainEventCallbackDeviceRemovedMsg](),
	{ProgramRemote, 346, TypeMessage}:            reflect.TypeFor[libvirt.DomainEventCallbackTunableMsg](),
	{ProgramRemote, 348, TypeMessage}:            reflect.TypeFor[libvirt.DomainEventCallbackAgentLifecycleMsg](),
	{ProgramRemote, 354, TypeMessage}:            reflect.TypeFor[libvirt.DomainEventCallbackDeviceAddedMsg](),
	{ProgramRemote, 359, TypeMessage}:            reflect.TypeFor[libvirt.DomainEventCallbackMigrationIterationMsg](),
	{ProgramRemote, 363, TypeMessage}:            reflect.TypeFor[libvirt.DomainEventCallbackJobCompletedMsg](),
	{ProgramRemote, 367, TypeMessage}:            reflect.TypeFor[libvirt.DomainEventCallbackDeviceRemovalFailedMsg](),
	{ProgramRemote, 379, TypeMessage}:            reflect.TypeFor[libvirt.DomainEventCallbackMetadataChangeMsg](),
	{ProgramQEMU, procMonitorEvent, TypeMessage}: reflect.TypeFor[libvirt.DomainEvent](),
}
